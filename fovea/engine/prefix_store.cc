#include "fovea/engine/prefix_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/log.h"
#include "fovea/base/mapped_file.h"
#include "fovea/base/numbers.h"
#include "fovea/engine/prefix_file.h"
#include "fovea/kernels/isa.h"
#include "fovea/store/build_id.h"
#include "fovea/store/user_cache.h"

namespace fovea::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".prefix", kPart = ".prefix.part-";
constexpr auto kStaleAfter = std::chrono::minutes(10);  // a write takes seconds; older, its process is gone
constexpr uint64_t kSpareBytes = uint64_t{64} << 20;    // of the disk, left to others

std::string short_hash(std::span<const std::byte> bytes) { return sha256_of(bytes).substr(0, 16); }

struct Entry {
  fs::path path;
  fs::file_time_type used;
  uint64_t bytes = 0;
  bool part = false;
};

// The store's files: plain ones of our own only, no links.
std::vector<Entry> entries_of(const std::string& dir) {
  std::vector<Entry> out;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool part = name.find(kPart) != std::string::npos;
    if (!part && !name.ends_with(kSuffix)) continue;
    std::error_code gone;  // another process may remove it while we look
    struct stat info {};
    if (lstat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid()) continue;
    Entry entry{it->path(), it->last_write_time(gone), 0, part};
    if (!gone) entry.bytes = it->file_size(gone);
    if (!gone) out.push_back(std::move(entry));
  }
  return out;
}

// Removes what killed writers left, then the longest unused files until `room` more bytes fit.
void make_room(const PrefixStoreOptions& options, uint64_t room) {
  std::vector<Entry> entries = entries_of(options.dir);
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  uint64_t total = room;
  for (const Entry& entry : entries) total += entry.bytes;
  for (const Entry& entry : entries) {
    const bool stale = entry.part && fs::file_time_type::clock::now() - entry.used > kStaleAfter;
    if (!stale && (entry.part || total <= options.max_bytes)) continue;
    std::error_code error;
    fs::remove(entry.path, error);
    if (error) continue;
    total -= entry.bytes;
    log_info("prefix cache: removed {}", quote(entry.path.string(), 4096));
  }
}

// A method that reads a profile acts by its numbers, so they are part of the setting.
std::string profile_hash(const attention::HeadProfile* profile) {
  if (!profile) return "none";
  Sha256 hash;
  for (const auto& [name, column] : profile->columns) {
    hash.add(std::as_bytes(std::span(name)));
    hash.add(std::as_bytes(std::span(column.values)));
  }
  return hash.hex();
}

size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

std::string default_prefix_dir() {
  const std::string dir = store::user_cache_dir();
  return dir.empty() ? dir : dir + "/prefix";
}

bool PrefixStore::usable(Session& session) const {
  if (options_.dir.empty() || session.pipeline().keeps_state() || session.hooks().active()) return false;
  if (session.adapters() && session.adapters()->sha256().empty()) return false;
  // Who can put a file there could choose what a model makes of a text.
  const std::string why = store::why_not_trusted(options_.dir);
  if (!why.empty()) log_info("prefix cache: off: {}: {}", quote(options_.dir, 4096), why);
  return why.empty();
}

Result<std::string> PrefixStore::setting_of(const Session& session) const {
  const std::string build = store::build_id();
  if (build.empty()) return make_error(ErrorCode::kUnsupported, "this program has no build id to tell it from others");
  FOVEA_ASSIGN_OR_RETURN(const std::string model, session.model().sha256());
  std::string out = fmt::format("model {}\nbuild {}\nisa {}\nnumerics {}\ncache_type {}\nattention {}\n", model, build,
                                kernels::name_of(kernels::active_isa()),
                                session.numerics() == kernels::Numerics::kExact ? "exact" : "fast",
                                attention::name_of(session.cache().shape().types()), session.pipeline().spec());
  if (session.n_ctx() > session.model().config().short_context) out += "angles of long contexts\n";
  if (session.adapters()) out += fmt::format("adapters {}\n", session.adapters()->sha256());
  if (!session.pipeline().dense())
    out += fmt::format("chunk {}\nprofile {}\n", session.chunk(), profile_hash(session.shape().profile));
  return out;
}

std::optional<PrefixStore::Found> PrefixStore::find(Session& session, std::span<const int32_t> prompt,
                                                    size_t n_shared) {
  if (!usable(session) || prompt.size() <= kLeastTokens) return std::nullopt;
  std::vector<Entry> entries = entries_of(options_.dir);
  if (entries.empty()) return std::nullopt;
  const auto setting = setting_of(session);
  if (!setting) {
    log_info("prefix cache: {}", setting.error().message);
    return std::nullopt;
  }
  struct Candidate {
    fs::path path;
    size_t n_common;
    uint64_t bytes;
  };
  std::vector<Candidate> candidates;
  const std::string stem = short_hash(std::as_bytes(std::span(*setting))) + "-";
  const bool dense = session.pipeline().dense();
  const auto passed_over = [](const Error& error) { log_info("prefix cache: passed over {}", error.message); };
  for (const Entry& entry : entries) {
    if (entry.part || !entry.path.filename().string().starts_with(stem)) continue;
    const auto file = MappedFile::open(entry.path.string());
    if (!file) {
      passed_over(file.error());
      continue;
    }
    const auto parsed = PrefixFile::parse((*file)->bytes(), quote(entry.path.string(), 4096));
    if (!parsed) {
      passed_over(parsed.error());
      continue;
    }
    const PrefixHead& head = parsed->head();
    if (head.setting != *setting) continue;
    size_t n = std::min(common_prefix(head.tokens, prompt), prompt.size() - 1);
    if (!dense && (n != n_shared || head.tokens.size() != n_shared)) continue;
    // All of the file is read and checked: worth it unless it only shares its first words.
    if (n >= kLeastTokens && n >= head.tokens.size() / 16) candidates.push_back({entry.path, n, entry.bytes});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.n_common != b.n_common ? a.n_common > b.n_common : a.bytes < b.bytes;
  });
  for (const Candidate& candidate : candidates) {
    const auto file = MappedFile::open(candidate.path.string());
    if (!file) continue;  // gone since
    const auto parsed = PrefixFile::parse((*file)->bytes(), quote(candidate.path.string(), 4096));
    if (!parsed || parsed->head().setting != *setting ||
        common_prefix(parsed->head().tokens, prompt) < candidate.n_common) {
      continue;  // replaced since
    }
    const auto sequence = session.adopt(static_cast<int32_t>(parsed->head().tokens.size()), parsed->head().keys,
                                        [&](attention::KvCache& cache, SequenceId id) -> Status {
                                          FOVEA_RETURN_IF_ERROR(parsed->restore(cache, id));
                                          return (*file)->check_intact();
                                        });
    if (!sequence) {
      passed_over(sequence.error());
      continue;
    }
    if (!session.can_truncate(*sequence, static_cast<int32_t>(candidate.n_common))) {
      session.remove(*sequence);  // a layer with a window let go what the shorter text needs
      continue;
    }
    session.truncate(*sequence, static_cast<int32_t>(candidate.n_common));
    (void)utimensat(AT_FDCWD, candidate.path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);  // used now: the last to go
    log_info("prefix cache: {} tokens from {}", candidate.n_common, quote(candidate.path.string(), 4096));
    return Found{*sequence, static_cast<int32_t>(candidate.n_common)};
  }
  return std::nullopt;
}

void PrefixStore::remember(Session& session, SequenceId sequence, std::span<const int32_t> tokens) {
  if (!usable(session) || tokens.size() < kLeastTokens) return;
  if (session.adapters(sequence) != session.adapters()) return;
  const auto n = static_cast<int32_t>(tokens.size());
  if (session.length(sequence) < n || (session.length(sequence) > n && !session.pipeline().dense())) return;
  if (!session.can_truncate(sequence, n)) return;  // layers with a window have gone on
  forget(session);
  pending_ = Pending{session.fork(sequence), {tokens.begin(), tokens.end()}, session.key_count()};
  session.truncate(pending_->sequence, n);
}

void PrefixStore::flush(Session& session) {
  if (!pending_) return;
  const auto setting = setting_of(session);
  const Status written = setting ? write(session, *setting) : Status(setting.error());
  if (!written) log_info("prefix cache: not stored: {}", written.error().message);
  forget(session);
}

void PrefixStore::forget(Session& session) {
  if (pending_) session.remove(pending_->sequence);
  pending_.reset();
}

Status PrefixStore::write(Session& session, const std::string& setting) {
  const PrefixHead head{setting, std::move(pending_->tokens), pending_->keys};
  const attention::KvCache& cache = session.cache();
  const uint64_t bytes = prefix_file_bytes(head, cache, pending_->sequence);
  if (bytes > options_.max_bytes) {
    return make_error(ErrorCode::kLimit, "{} tokens take {} bytes, and the cache may have {}", head.tokens.size(),
                      bytes, options_.max_bytes);
  }
  FOVEA_RETURN_IF_ERROR(store::make_private_folder(options_.dir));
  const std::string path = fmt::format("{}/{}-{}{}", options_.dir, short_hash(std::as_bytes(std::span(setting))),
                                       short_hash(std::as_bytes(std::span(head.tokens))), kSuffix);
  make_room(options_, bytes);
  std::error_code error;
  const fs::space_info space = fs::space(options_.dir, error);
  if (!error && space.available < bytes + kSpareBytes) {
    return make_error(ErrorCode::kIo, "{}: {} are needed and {} are free", quote(options_.dir, 4096),
                      size_text(static_cast<double>(bytes + kSpareBytes)),
                      size_text(static_cast<double>(space.available)));
  }
  FOVEA_RETURN_IF_ERROR(write_prefix_file(path, head, cache, pending_->sequence));
  log_info("prefix cache: {} tokens stored in {}", head.tokens.size(), quote(path, 4096));
  return {};
}

}  // namespace fovea::engine
