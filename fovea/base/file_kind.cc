#include "fovea/base/file_kind.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace fovea {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kOffice = "its text: libreoffice --headless --convert-to txt:Text FILE";
constexpr std::string_view kSheet = "its cells: libreoffice --headless --convert-to csv FILE";
constexpr std::string_view kPandoc = "its text: pandoc -t plain FILE";
constexpr std::string_view kImage = "the text that it shows: tesseract FILE -";
constexpr std::string_view kUnpack = "unpack it first";

struct Magic {
  size_t at;
  std::string_view bytes;
  FileKind kind;
};

// The first that fits counts.
constexpr auto kMagic = std::to_array<Magic>({
    {0, "{\\rtf"sv, {"an RTF document", kPandoc}},
    {0, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, {"an old Office document (doc, xls, ppt)", kOffice}},
    {0, "%!PS"sv, {"PostScript", "its text: ps2ascii FILE"}},
    {0, "AT&TFORM"sv, {"a DjVu document", "its text: djvutxt FILE"}},
    {0, "\x89PNG\r\n\x1A\n"sv, {"a PNG image", kImage}},
    {0, "\xFF\xD8\xFF"sv, {"a JPEG image", kImage}},
    {0, "GIF87a"sv, {"a GIF image", kImage}},
    {0, "GIF89a"sv, {"a GIF image", kImage}},
    {0, "II*\0"sv, {"a TIFF image", kImage}},
    {0, "MM\0*"sv, {"a TIFF image", kImage}},
    {8, "WEBP"sv, {"a WebP image", kImage}},
    {4, "ftypheic"sv, {"a HEIC image", kImage}},
    {4, "ftypmif1"sv, {"a HEIC image", kImage}},
    {4, "ftypavif"sv, {"an AVIF image", kImage}},
    {0, "8BPS"sv, {"a Photoshop image", kImage}},
    {0, "\0\0\1\0"sv, {"an icon", ""}},
    {4, "ftyp"sv, {"a video or audio file (MP4)", ""}},
    {0, "\x1A\x45\xDF\xA3"sv, {"a video (Matroska, WebM)", ""}},
    {8, "AVI "sv, {"a video (AVI)", ""}},
    {8, "WAVE"sv, {"an audio file (WAV)", ""}},
    {0, "ID3"sv, {"an audio file (MP3)", ""}},
    {0, "OggS"sv, {"an audio or video file (Ogg)", ""}},
    {0, "fLaC"sv, {"an audio file (FLAC)", ""}},
    {0, "\x1F\x8B"sv, {"a gzip archive", "what is in it: gzip -dc FILE"}},
    {0, "BZh"sv, {"a bzip2 archive", "what is in it: bzip2 -dc FILE"}},
    {0,
     "\xFD"
     "7zXZ\0"sv,
     {"an xz archive", "what is in it: xz -dc FILE"}},
    {0, "\x28\xB5\x2F\xFD"sv, {"a Zstandard archive", "what is in it: zstd -dc FILE"}},
    {0, "\x04\x22\x4D\x18"sv, {"an LZ4 archive", "what is in it: lz4 -dc FILE"}},
    {0, "7z\xBC\xAF\x27\x1C"sv, {"a 7-Zip archive", kUnpack}},
    {0, "Rar!\x1A\x07"sv, {"a RAR archive", kUnpack}},
    {0, "!<arch>\n"sv, {"a library or a Debian package", kUnpack}},
    {257, "ustar"sv, {"a tar archive", "one of its files: tar -xOf FILE NAME"}},
    {0,
     "\x7F"
     "ELF"sv,
     {"an executable (ELF)", ""}},
    {0, "\xCF\xFA\xED\xFE"sv, {"an executable (Mach-O)", ""}},
    {0, "\xCE\xFA\xED\xFE"sv, {"an executable (Mach-O)", ""}},
    {0, "\xCA\xFE\xBA\xBE"sv, {"Java or Mach-O code", ""}},
    {0, "\0asm"sv, {"WebAssembly", ""}},
    {0, "GGUF"sv, {"a model (GGUF)", "it goes with -m"}},
    {0, "\x93NUMPY"sv, {"a NumPy file", ""}},
    {0, "\x89HDF\r\n\x1A\n"sv, {"an HDF5 file", ""}},
    {0, "PAR1"sv, {"a Parquet file", ""}},
    {0, "SQLite format 3\0"sv, {"an SQLite database", "its rows: sqlite3 FILE .dump"}},
    {0, "version https://git-lfs.github.com/spec/"sv, {"a Git LFS pointer, not the file itself", "git lfs pull"}},
});

bool has(std::string_view bytes, size_t at, std::string_view what) {
  return bytes.size() >= at + what.size() && bytes.substr(at, what.size()) == what;
}

// The members of a zip archive say what it is: their names stand between the compressed bytes, the first ones soon.
const FileKind* zip_kind(std::string_view bytes) {
  static constexpr FileKind kWord = {"a Word document", kPandoc}, kExcel = {"an Excel workbook", kSheet},
                            kPowerPoint = {"a PowerPoint document", kOffice}, kEpub = {"an EPUB book", kPandoc},
                            kText = {"an OpenDocument text", kPandoc}, kOther = {"an OpenDocument file", kOffice},
                            kJar = {"Java code (JAR)", ""}, kOoxml = {"an Office document", kOffice},
                            kZip = {"a zip archive", "one of its files: unzip -p FILE NAME"};
  const auto holds = [bytes](std::string_view what) { return bytes.find(what) != bytes.npos; };
  if (holds("mimetypeapplication/epub")) return &kEpub;
  if (holds("mimetypeapplication/vnd.oasis.opendocument.text")) return &kText;
  if (holds("mimetypeapplication/vnd.oasis.opendocument.spreadsheet")) return &kOther;
  if (holds("mimetypeapplication/vnd.oasis.opendocument")) return &kOther;
  if (holds("word/")) return &kWord;
  if (holds("xl/")) return &kExcel;
  if (holds("ppt/")) return &kPowerPoint;
  if (holds("[Content_Types].xml")) return &kOoxml;
  if (holds("META-INF/MANIFEST.MF")) return &kJar;
  return &kZip;
}

}  // namespace

const FileKind* file_kind(std::string_view bytes) {
  static constexpr FileKind kPdf = {"a PDF", "its text: pdftotext FILE -"}, kBmp = {"a BMP image", kImage},
                            kExe = {"an executable (Windows)", ""}, kSafetensors = {"a model (safetensors)", ""},
                            kPickle = {"a Python pickle", ""}, kMp3 = {"an audio file (MP3)", ""};
  bytes = bytes.substr(0, kFileKindBytes);
  // Readers of PDF allow bytes before it; a text about the format does not begin a line with a version.
  const size_t pdf = bytes.substr(0, 1024).find("%PDF-");
  if (pdf != bytes.npos &&
      (pdf == 0 || bytes.substr(0, pdf).find_first_not_of("\r\n\t \xEF\xBB\xBF\0"sv) == bytes.npos ||
       bytes.find('\0') != bytes.npos))
    return &kPdf;
  if (has(bytes, 0, "PK\3\4") || has(bytes, 0, "PK\5\6")) return zip_kind(bytes);
  for (const Magic& magic : kMagic) {
    const bool riff = magic.at != 8 || has(bytes, 0, "RIFF");
    if (riff && has(bytes, magic.at, magic.bytes)) return &magic.kind;
  }
  // Two letters alone are no proof: what follows must be binary.
  const bool binary = bytes.find('\0') != bytes.npos;
  if (binary && has(bytes, 0, "BM")) return &kBmp;
  if (binary && has(bytes, 0, "MZ")) return &kExe;
  if (binary && bytes.size() > 9 && has(bytes, 8, "{\"")) return &kSafetensors;
  if (binary && bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5) return &kPickle;
  if (binary && bytes.size() > 2 && bytes[0] == '\xFF' && (bytes[1] & 0xE6) == 0xE2) return &kMp3;
  return nullptr;
}

bool is_html(std::string_view bytes) {
  bytes = bytes.substr(0, kFileKindBytes);
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
  const auto skip_space = [&bytes] { bytes.remove_prefix(std::min(bytes.find_first_not_of(" \t\r\n"), bytes.size())); };
  const auto begins_with = [&bytes](std::string_view what) {
    return bytes.size() >= what.size() && std::equal(what.begin(), what.end(), bytes.begin(), [](char a, char b) {
             return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
           });
  };
  skip_space();
  if (begins_with("<?xml")) {
    bytes.remove_prefix(std::min(bytes.find('>'), bytes.size() - 1) + 1);
    skip_space();
  }
  return begins_with("<!doctype html") || begins_with("<html");
}

}  // namespace fovea
