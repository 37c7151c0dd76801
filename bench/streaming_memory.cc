// What a streaming cache saves: memory of keys and values, and decode speed at depth, dense and with
// streaming-llm on all heads or on some, each in a fresh process.
//
//   bench_streaming_memory [MODEL] [TOKENS]      (smollm2-135m from the store, 8192)
//
// ideal     the least pages for the keys that each head must hold (min(text, n_sink + window) where the
//           method drops keys, else the whole text), each with its keys, values and 32 positions; and one
//           chunk of keys in one layer, which its own attention reads before `keep` drops any
// measured  the highest resident size while the text is read and decoded, less what was resident before: a warm
//           session that has read the same text and dropped it, so that weights, activations and scratch are
//           there and no key is. Holes in pages, bookkeeping and what the allocator does not give back
//           count against the cache.

#include <fmt/core.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "fovea/base/random.h"
#include "fovea/engine/session.h"
#include "fovea/store/model_store.h"

namespace fovea {
namespace {

using engine::Session;

constexpr int kDecoded = 64;

// A field of /proc/self/status in bytes.
[[noreturn]] void stop(const Error& error) {
  fmt::print(stderr, "streaming_memory: {}\n", error.message);
  std::exit(exit_code(error.code));
}

template <typename T>
T get(Result<T> result) {
  if (!result) stop(result.error());
  return std::move(result).value();
}

std::vector<int32_t> random_text(int n, int vocab_size) {
  Rng rng(7);
  std::vector<int32_t> ids;
  for (int i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(std::min(vocab_size, 256)))));
  return ids;
}

std::unique_ptr<Session> open(const std::shared_ptr<const engine::Model>& model, const std::string& attention) {
  engine::SessionOptions options;
  options.attention = attention;
  return get(Session::create(model, options));
}

uint64_t ideal_bytes(const Session& session, int64_t n_tokens) {
  const auto with_positions = [&](int64_t keys) {
    const uint64_t page = session.cache().ideal_bytes(0, 1);
    return session.cache().ideal_bytes(0, keys) / page * (page + kernels::kPageKeys * sizeof(int32_t));
  };
  uint64_t bytes = with_positions(session.chunk()) * static_cast<uint64_t>(session.shape().n_kv_heads);
  if (session.pipeline().dense()) bytes = 0;  // its chunk stays
  for (int layer = 0; layer < session.shape().n_layers; ++layer) {
    for (int kv = 0; kv < session.shape().n_kv_heads; ++kv) {
      int64_t keys = n_tokens;
      for (const auto& method : session.pipeline().methods()) {
        int64_t needed = 0;  // by the head of the group that sees most
        for (int g = 0; g < session.shape().group(); ++g) {
          const attention::KeyRule rule = method->rule(layer, kv * session.shape().group() + g);
          needed = std::max(needed, int64_t{rule.n_sink} + rule.window);
        }
        keys = std::min(keys, needed);
      }
      bytes += with_positions(keys);
    }
  }
  return bytes;
}

void run_setting(const std::string& path, const std::string& attention, int n_tokens) {
  const auto model = get(engine::Model::load(path));
  const std::vector<int32_t> ids = random_text(n_tokens, model->shape().vocab_size);
  {  // the answer first: a window wider than the text is dense attention
    const std::span<const int32_t> some(ids.data(), std::min<size_t>(ids.size(), 600));
    auto dense = open(model, "dense"), wide = open(model, "streaming-llm:window=100000");
    if (get(dense->prefill(dense->begin(), some)) != get(wide->prefill(wide->begin(), some))) {
      stop(make_error(ErrorCode::kFailed, "streaming-llm with a wide window differs from dense"));
    }
  }
  auto session = open(model, attention);
  std::vector<double> seconds;
  const auto read = [&] {
    seconds.clear();
    const engine::SequenceId s = session->begin();
    get(session->prefill(s, std::span(ids).first(ids.size() - kDecoded)));
    for (int i = 0; i < kDecoded; ++i) {
      const Session::Step step{s, ids[ids.size() - kDecoded + static_cast<size_t>(i)]};
      const auto begin = std::chrono::steady_clock::now();
      get(session->decode({&step, 1}));
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return s;
  };
  session->remove(read());
  malloc_trim(0);
  const int64_t warm = bench::status_bytes("VmRSS");
  if (std::ofstream refs("/proc/self/clear_refs"); !(refs << "5"))
    stop(make_error(ErrorCode::kUnavailable, "the peak cannot be reset on this system"));
  read();
  std::sort(seconds.begin(), seconds.end());
  const auto measured = static_cast<double>(bench::status_bytes("VmHWM") - warm),
             ideal = static_cast<double>(ideal_bytes(*session, n_tokens)),
             counted = static_cast<double>(session->cache().bytes());
  constexpr double kMb = 1e6;
  fmt::print("{:44} {:7.1f} {:8.1f} {:7.1f} {:+6.1f} % {:7.1f} {:8.1f}\n", attention, ideal / kMb, measured / kMb,
             counted / kMb, 100 * (measured / ideal - 1), static_cast<double>(warm) / kMb, 1 / seconds[kDecoded / 2]);
  std::fflush(stdout);
}

}  // namespace
}  // namespace fovea

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "smollm2-135m";
  const int n_tokens = argc > 2 ? std::atoi(argv[2]) : 8192;
  if (n_tokens < 2048) {
    fmt::print(stderr, "streaming_memory: {} tokens; at least 2048 are needed to see anything\n", n_tokens);
    return 2;
  }
  const auto path = fovea::store::resolve_model(name);
  if (!path) {
    fmt::print(stderr, "streaming_memory: skipped: {}\n", path.error().message);
    return 0;
  }
  fmt::print("{}, {} tokens; MB of keys and values, and resident before them\n", name, n_tokens);
  fmt::print("{:44} {:>7} {:>8} {:>7} {:>8} {:>7} {:>8}\n", "attention", "ideal", "measured", "pages", "over", "before",
             "decode/s");
  std::fflush(stdout);
  std::vector<std::string> settings = {"dense", "streaming-llm:n_sink=4:window=1020",
                                       "streaming-llm:n_sink=4:window=1020:heads=0-21"};
  if (argc > 3) settings.assign(argv + 3, argv + argc);
  for (const std::string& setting : settings) {
    const pid_t child = fork();
    if (child == 0) {
      fovea::run_setting(path.value(), setting, n_tokens);
      std::exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return 1;
  }
  return 0;
}
