#include "fovea/store/build_id.h"

#include <fmt/core.h>
#include <link.h>

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

namespace fovea::store {
namespace {

// The description of the GNU build-id note in a note segment, as hex.
std::string id_in(std::span<const std::byte> notes) {
  constexpr std::string_view kOwner("GNU\0", 4);
  const auto padded = [](size_t n) { return (n + 3) / 4 * 4; };
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes.data(), sizeof(note));
    notes = notes.subspan(sizeof(note));
    const size_t name = padded(note.n_namesz), description = padded(note.n_descsz);
    if (notes.size() < name || notes.size() - name < description) break;
    const std::string_view owner(reinterpret_cast<const char*>(notes.data()), note.n_namesz);
    if (note.n_type == NT_GNU_BUILD_ID && owner == kOwner) {
      std::string hex;
      for (const std::byte byte : notes.subspan(name, note.n_descsz)) hex += fmt::format("{:02x}", unsigned(byte));
      return hex;
    }
    notes = notes.subspan(name + description);
  }
  return "";
}

// The object that this function is part of: the program, or the shared library that Fovea is linked into.
int find(dl_phdr_info* object, size_t, void* out) {
  const std::span headers(object->dlpi_phdr, object->dlpi_phnum);
  const auto here = reinterpret_cast<uintptr_t>(&find);
  bool ours = false;
  for (const auto& header : headers) {
    const uintptr_t begin = object->dlpi_addr + header.p_vaddr;
    ours = ours || (header.p_type == PT_LOAD && here >= begin && here - begin < header.p_memsz);
  }
  if (!ours) return 0;
  for (const auto& header : headers) {
    if (header.p_type != PT_NOTE) continue;
    const auto* notes = reinterpret_cast<const std::byte*>(object->dlpi_addr + header.p_vaddr);
    std::string id = id_in({notes, header.p_memsz});
    if (!id.empty()) *static_cast<std::string*>(out) = std::move(id);
  }
  return 1;
}

}  // namespace

std::string build_id() {
  std::string id;
  dl_iterate_phdr(&find, &id);
  return id;
}

}  // namespace fovea::store
