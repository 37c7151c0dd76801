#include "apps/cli/model_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/log.h"
#include "fovea/base/numbers.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/head_profile.h"
#include "fovea/engine/lora.h"
#include "fovea/engine/method_weights.h"
#include "fovea/engine/soft_prompt.h"
#include "fovea/formats/requantize.h"
#include "fovea/kernels/isa.h"
#include "fovea/probe/measures/profile.h"
#include "fovea/store/model_store.h"
#include "fovea/store/user_cache.h"

namespace fovea::cli {
namespace {

std::optional<kernels::KvType> cache_type(std::string_view name) {
  for (const auto type : {kernels::KvType::kQ8_0, kernels::KvType::kF32, kernels::KvType::kI16}) {
    if (kernels::name_of(type) == name) return type;
  }
  return std::nullopt;
}

// Of --cache-type-k and -v, with the words of other programs for 16 bits.
std::optional<kernels::KvType> side_type(std::string_view name) {
  return name == "f16" || name == "bf16" ? kernels::KvType::kI16 : cache_type(name);
}

Result<uint64_t> repack_budget(const Common& common, const std::string& repack) {
  if (repack == "off") return 0;
  if (repack == "auto") {
    // At most half of what is free: the cache needs room too.
    const uint64_t available = available_bytes();
    return available > 0 ? available / 2 : std::numeric_limits<uint64_t>::max();
  }
  uint64_t bytes = 0;
  if (parse_size(repack, bytes)) return bytes;
  return make_error(ErrorCode::kUsage, "--repack: {} is neither auto, off, nor a size in 0 to {} bytes, as in 500MB",
                    quote(repack, 40), kMaxSize);
}

}  // namespace

uint64_t available_bytes() {
  std::ifstream in("/proc/meminfo");
  std::string word;
  uint64_t kib = 0;
  while (in >> word) {
    if (word == "MemAvailable:" && in >> kib) return kib * 1024;
  }
  return 0;
}

int context_of(const ModelFlags& flags, const attention::ModelShape& shape) {
  const auto pipeline = attention::Pipeline::parse(flags.attention, shape);
  return pipeline ? engine::context_of(*pipeline, shape) : shape.n_ctx;  // what is wrong with it a session says
}

Status check_context(const ModelFlags& flags, const attention::ModelShape& shape) {
  if (flags.n_ctx <= shape.n_ctx || flags.n_ctx <= context_of(flags, shape)) return {};
  return make_error(ErrorCode::kUsage, "--ctx-size: {} is more than the {} tokens that this model was trained for",
                    flags.n_ctx, shape.n_ctx);
}

attention::CacheTypes cache_type_of(const Common& common, const ModelFlags& flags) {
  const kernels::KvType both =
      cache_type(flags.cache_type).value_or(common.numerics == "exact" ? kernels::KvType::kF32 : kernels::KvType::kI16);
  return {side_type(flags.k_cache_type).value_or(both), side_type(flags.v_cache_type).value_or(both)};
}

void add_model_flags(CommandLine& sub, Common& common, ModelFlags& flags, bool model_required) {
  add_model_options(sub, common, model_required);
  sub.add_option("-c,--ctx-size", flags.n_ctx, "tokens of context; 0: as many as the model was trained for")
      .transform(in_range(int64_t{0}, int64_t{1} << 24))
      .show_default();
  sub.add_option("-b,--batch-size", flags.chunk, "tokens of one prefill step; Ctrl+C is looked at between steps")
      .transform(in_range(int64_t{1}, int64_t{65'536}))
      .show_default();
  sub.add_option("--ubatch-size", flags.most_at_once, "-b again, as llama.cpp's -ub says it: the smaller one counts")
      .transform(in_range(int64_t{1}, int64_t{65'536}))
      .show_default();
  sub.add_option("--attention", flags.attention,
                 "dense, auto (the fastest that fovea leaderboard measured on this model and that loses no more than "
                 "1 % of loss and 2 points of needles: auto:nll=1:recall=2), or methods with knobs: "
                 "streaming-llm:window=1020; @FILE reads a policy")
      .show_default();
  sub.add_option("--profile", flags.profile,
                 "the head profile of the model, as `fovea profile` makes it; default: the one kept or shipped");
  sub.add_option("--cache-type", flags.cache_type,
                 "how keys and values are kept: i16, q8_0 (half as large), f32; auto: i16, with --numerics exact f32")
      .check([](const std::string& input) {
        if (input == "auto" || cache_type(input)) return std::string();
        return fmt::format("{} is not auto, q8_0, f32 or i16", quote(input, 40));
      })
      .show_default();
  const auto one_of_them = [](const std::string& input) {
    if (side_type(input)) return std::string();
    return fmt::format("{} is not i16 (or f16, taken as that: its size), q8_0 or f32", quote(input, 40));
  };
  sub.add_option("--cache-type-k", flags.k_cache_type, "of keys alone (-ctk of llama.cpp)").check(one_of_them);
  sub.add_option("--cache-type-v", flags.v_cache_type, "of values alone (-ctv)").check(one_of_them);
  add_adapter_flags(sub, flags);
  sub.add_option(
         "--quantize", flags.quantize,
         "weights become of this type while the model is loaded, as `fovea quantize` makes them: q8_0, q4_k, ...")
      .check([](const std::string& input) {
        const auto type = formats::parse_type(input);
        return type ? std::string() : type.error().message;
      });
  sub.add_option("--repack", flags.repack, "auto, off, or how many bytes (500MB) repacked weights may take")
      .show_default();
}

void add_adapter_flags(CommandLine& sub, ModelFlags& flags) {
  sub.add_option("--lora", flags.loras,
                 "PATH[=SCALE]: a LoRA adapter, PEFT's folder or a GGUF file, and how strongly it counts (1); may be "
                 "repeated")
      .one_value_each_time();
  sub.add_option("--masks", flags.masks, "a file of masks, as fovea train learns them, over the model's weights");
}

Result<std::shared_ptr<const tensor::Adapters>> load_adapters(const engine::Model& model, const ModelFlags& flags) {
  std::vector<engine::LoraRequest> requests;
  for (const std::string& text : flags.loras) {
    engine::LoraRequest request{.path = text};
    const size_t equals = text.rfind('=');
    // A path may have a '=' of its own.
    if (equals != std::string::npos && parse_number(std::string_view(text).substr(equals + 1), request.scale))
      request.path.resize(equals);
    if (request.path.empty() || !(std::abs(request.scale) <= 1e6))
      return make_error(ErrorCode::kUsage, "--lora: {} is not PATH or PATH=SCALE, as in my-adapter=0.5",
                        quote(text, 4096));
    requests.push_back(std::move(request));
  }
  return engine::load_adapters(model, requests, flags.masks);
}

void add_soft_prompt_flag(CommandLine& sub, ModelFlags& flags) {
  sub.add_option("--soft-prompt", flags.soft_prompt,
                 "a file of rows that stand before the prompt, as fovea train learns them");
}

Result<engine::SequenceId> begin_sequence(engine::Session& session, const ModelFlags& flags, int64_t n_tokens) {
  tensor::Tensor rows;
  if (!flags.soft_prompt.empty()) {
    FOVEA_ASSIGN_OR_RETURN(rows, engine::read_soft_prompt(flags.soft_prompt, session.shape()));
  }
  FOVEA_RETURN_IF_ERROR(check_prompt_fits(session, n_tokens + (rows.defined() ? rows.dim(0) : 0)));
  const engine::SequenceId sequence = session.begin();
  if (rows.defined()) FOVEA_RETURN_IF_ERROR(engine::feed_soft_prompt(session, sequence, rows, &Interrupt::flag()));
  return sequence;
}

void add_lookup_flag(CommandLine& sub, engine::LookupOptions& lookup) {
  lookup.max_drafted = engine::LookupOptions::kMost;
  const auto take = [&lookup](const std::string& text) {
    constexpr int kMost = engine::LookupOptions::kMost;
    int n = text == "auto" ? kMost : 0;
    const bool known = text == "auto" || text == "off" || (parse_number(text, n) && n >= 1 && n <= kMost);
    if (!known)
      return fmt::format("{} is neither auto, off, nor a number of tokens in 1 to {}", quote(text, 40), kMost);
    lookup.max_drafted = n;
    return std::string();
  };
  sub.add_option_function(
         "--lookup", take,
         "tokens drafted at most where the answer repeats what was read: auto, off, or a number; same answer")
      .show_default("auto");
}

void add_sampling_flags(CommandLine& sub, SamplingFlags& flags) {
  constexpr int64_t kMaxInt = std::numeric_limits<int>::max();
  engine::SamplingOptions& s = flags.sampling;
  sub.add_option("-n,--n-predict", flags.n_predict,
                 "tokens of answer at most; -1: until it ends or the context is full")
      .transform(in_range(int64_t{-1}, kMaxInt))
      .show_default();
  add_seed_option(sub, flags.seed, "same seed, same answer");
  sub.add_option("--temp,--temperature", s.temperature, "temperature; 0: always the likeliest token")
      .transform(in_range(0.0, 100.0))
      .show_default();
  sub.add_option("--top-k", s.top_k, "sample from the k likeliest tokens; 0: all")
      .transform(in_range(int64_t{0}, kMaxInt))
      .show_default();
  sub.add_option("--top-p", s.top_p, "sample from the likeliest tokens that hold this much; 1: all")
      .transform(in_range(0.0, 1.0))
      .show_default();
  sub.add_option("--min-p", s.min_p, "leave out what is less likely than this times the likeliest; 0: nothing")
      .transform(in_range(0.0, 1.0))
      .show_default();
  sub.add_option("--repeat-penalty", s.repeat_penalty, "divides the logits of recent tokens; 1: no penalty")
      .transform(in_range(0.01, 100.0))
      .show_default();
  sub.add_option("--presence-penalty", s.presence_penalty, "taken once from the logits of recent tokens")
      .transform(in_range(-2.0, 2.0))
      .show_default();
  sub.add_option("--frequency-penalty", s.frequency_penalty, "taken from them as often as the token occurred")
      .transform(in_range(-2.0, 2.0))
      .show_default();
  sub.add_option("--repeat-last-n", s.repeat_last_n, "tokens that the penalties look back on; -1: all")
      .transform(in_range(int64_t{-1}, kMaxInt))
      .show_default();
  sub.add_option("--logit-bias", flags.logit_bias, "ID=VALUE, added to a token's logit; -inf bans it; may be repeated")
      .one_value_each_time();
  sub.add_option("--stop", flags.stop, "the answer ends before this text; may be repeated").one_value_each_time();
  sub.add_flag("--ignore-eos", flags.ignore_eos, "go on where the model would end");
  add_lookup_flag(sub, flags.lookup);
}

Result<engine::GenerateOptions> generate_options(const SamplingFlags& flags, const engine::Model& model) {
  engine::GenerateOptions options;
  options.n_predict = flags.n_predict;
  options.sampling = flags.sampling;
  options.sampling.seed = flags.seed.value;
  options.lookup = flags.lookup;
  options.stop = flags.stop;
  options.ignore_eos = flags.ignore_eos;
  options.cancel = options.prefill.cancel = &Interrupt::flag();
  for (const std::string& text : flags.logit_bias) {
    const size_t equals = text.find_first_of("=+-", 1);
    int32_t id = 0;
    float value = 0;
    // llama.cpp writes 42+1.5 and 42-1.5.
    const size_t value_at = equals == std::string::npos ? equals : equals + (text[equals] == '-' ? 0 : 1);
    if (equals == std::string::npos || !parse_number(std::string_view(text).substr(0, equals), id) ||
        !parse_number(std::string_view(text).substr(value_at), value)) {
      return make_error(ErrorCode::kUsage, "--logit-bias: {} is not ID=VALUE, as in 42=-inf", quote(text, 40));
    }
    options.sampling.logit_bias[id] = value;
  }
  FOVEA_RETURN_IF_ERROR(engine::check_sampling(options.sampling, model.shape().vocab_size));
  return options;
}

Result<std::shared_ptr<const engine::Model>> load_model(const Common& common, const ModelFlags& flags) {
  FOVEA_RETURN_IF_ERROR(kernels::check_isa_variable());
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  engine::ModelOptions options;
  FOVEA_ASSIGN_OR_RETURN(options.repack_bytes, repack_budget(common, flags.repack));
  options.repack_late = flags.repack_late;
  options.repack_for = common.numerics == "exact" ? kernels::Numerics::kExact : kernels::Numerics::kFast;
  options.cancel = &Interrupt::flag();
  if (!flags.quantize.empty()) {
    FOVEA_ASSIGN_OR_RETURN(options.quantize, formats::parse_type(flags.quantize));
  }
  Progress bar("loading", 0, "MB", 1e6, common.quiet);
  options.progress = [&bar](uint64_t done, uint64_t total) {
    bar.set_total(total);
    bar.update(done);
  };
  auto model = engine::Model::load(path, options);
  bar.clear();
  if (model && common.verbose > 0) {
    tell("{}, repacks {} MB of weights within {} MB (--repack {}), {} kernels", path,
         model.value()->packed_bytes() / 1'000'000, options.repack_bytes / 1'000'000, flags.repack,
         kernels::name_of(kernels::active_isa()));
  }
  return model;
}

Result<std::optional<tasks::AutoChoice>> choose_attention(const Common& common, const ModelFlags& flags,
                                                          const std::string& path, const attention::ModelShape& shape,
                                                          int64_t n_tokens) {
  FOVEA_ASSIGN_OR_RETURN(const auto bound, tasks::parse_auto(flags.attention));
  if (!bound) return std::optional<tasks::AutoChoice>();
  const attention::CacheTypes type = cache_type_of(common, flags);
  tasks::AutoRequest request;
  request.bound = *bound, request.n_tokens = n_tokens, request.available_bytes = available_bytes();
  const attention::KvCache cache(attention::CacheShape::of(shape, type));
  for (int layer = 0; layer < shape.n_layers; ++layer)
    request.dense_kv_bytes +=
        cache.ideal_bytes(layer, n_tokens + request.n_answer) * static_cast<uint64_t>(shape.site(layer).n_kv_heads());
  std::vector<tasks::MeasuredBoard> boards;
  if (flags.loras.empty() && flags.masks.empty() && flags.quantize.empty()) {  // else it is another model
    FOVEA_ASSIGN_OR_RETURN(const std::string sha256, store::cached_sha256(path));
    boards = tasks::measured_boards(sha256, common.numerics, attention::name_of(type));
  }
  return std::optional(tasks::choose_attention(boards, shape, request));
}

void tell_choice(const Common& common, const tasks::AutoChoice& choice, int64_t n_tokens) {
  constexpr int64_t kShort = 2048;  // dense is what everybody expects there
  if (!common.quiet && (choice.spec != "dense" || n_tokens >= kShort || common.verbose > 0))
    tell("auto: {} {}", choice.spec, choice.why);
}

Result<engine::SessionOptions> session_options(const engine::Model& model, const Common& common,
                                               const ModelFlags& given, int64_t n_tokens) {
  ModelFlags flags = given;
  FOVEA_ASSIGN_OR_RETURN(const auto choice, choose_attention(common, flags, model.path(), model.shape(), n_tokens));
  if (choice) {
    flags.attention = choice->spec;
    tell_choice(common, *choice, n_tokens);
  }
  FOVEA_RETURN_IF_ERROR(check_context(flags, model.shape()));
  engine::SessionOptions options;
  options.numerics = common.numerics == "exact" ? kernels::Numerics::kExact : kernels::Numerics::kFast;
  if (flags.cache_type != "auto" || !flags.k_cache_type.empty() || !flags.v_cache_type.empty())
    options.cache_type = cache_type_of(common, flags);
  options.n_ctx = flags.n_ctx;
  options.chunk = std::min(flags.chunk, flags.most_at_once);
  options.attention = flags.attention;
  FOVEA_ASSIGN_OR_RETURN(options.adapters, load_adapters(model, flags));
  if (!flags.profile.empty()) {
    FOVEA_ASSIGN_OR_RETURN(options.profile, engine::read_head_profile(flags.profile, model, options.adapters.get()));
  } else if (flags.attention != "dense") {
    // Methods that need one say so themselves if there is none; the others do without, also where a kept one is broken.
    auto found = probe::find_profile(model, options.adapters.get());
    if (found) {
      options.profile = std::move(found->heads);
    } else if (found.error().code == ErrorCode::kData) {
      log_warning("{}", found.error().message);
    } else if (found.error().code != ErrorCode::kNotFound) {
      return std::move(found.error());
    }
  }
  return options;
}

Result<std::unique_ptr<engine::Session>> open_session(std::shared_ptr<const engine::Model> model, const Common& common,
                                                      const ModelFlags& flags, int64_t n_tokens) {
  FOVEA_ASSIGN_OR_RETURN(const engine::SessionOptions options, session_options(*model, common, flags, n_tokens));
  FOVEA_ASSIGN_OR_RETURN(auto session, engine::Session::create(std::move(model), options));
  const auto& used = session->pipeline().methods();
  for (const std::string& name : engine::methods_with_weights(session->model().source())) {
    if (std::none_of(used.begin(), used.end(), [&](const auto& method) { return method->info().name == name; }))
      log_warning("{} has weights of {}, which are not used without --attention {}", session->model().source().name(),
                  name, name);
  }
  if (!flags.decodes) {
    for (const std::string_view name : session->pipeline().only_while_decoding(session->shape()))
      log_warning("{} acts while an answer is decoded; nothing is decoded here, so it changes nothing", name);
  }
  return session;
}

Status check_prompt_fits(const engine::Session& session, int64_t n_tokens) {
  if (n_tokens <= session.n_ctx()) return {};
  const int trained = session.model().shape().n_ctx;
  std::string message = fmt::format("the prompt is {} tokens long and the context holds {}", n_tokens, session.n_ctx());
  if (n_tokens <= trained) {
    message += fmt::format("; this model has up to {} (--ctx-size)", trained);
  } else if (session.pipeline().dense()) {
    message += "; --attention streaming-llm reads on without end, and knows the beginning and the last of it";
  } else {
    message += fmt::format("; with {} some row looks back further than the {} that the model was trained for",
                           session.pipeline().spec(), trained);
  }
  return Error{ErrorCode::kLimit, message, {}};
}

void add_text_flags(CommandLine& sub, TextFlags& flags, const std::string& what, bool with_prompt_flag) {
  flags.options.push_back(sub.add_option(what, flags.argument, "the text; - reads it from stdin"));
  if (with_prompt_flag)
    flags.options.push_back(
        sub.add_option("-p,--prompt", flags.prompt, "the text, where it could be taken for an option"));
  flags.options.push_back(sub.add_option("-f,--file", flags.file, "a file with the text; - is stdin"));
}

Result<Option> the_one_given(const TextFlags& flags) {
  std::vector<std::string> names;
  Option given;
  int n_given = 0;
  for (const Option option : flags.options) {
    names.push_back(option.name());
    if (option.count() == 0) continue;
    given = option;
    ++n_given;
  }
  const std::string choice = fmt::format("{}", fmt::join(names, ", "));
  if (n_given == 0) return make_error(ErrorCode::kUsage, "no text: give {}, or - to read stdin", choice);
  if (n_given > 1) return make_error(ErrorCode::kUsage, "more than one text: give one of {}", choice);
  return given;
}

Result<std::string> read_text(const TextFlags& flags) {
  FOVEA_ASSIGN_OR_RETURN(const Option given, the_one_given(flags));
  if (given == flags.options.back()) return read_text_file(flags.file);
  if (given != flags.options.front()) return argument_text(flags.prompt, "--prompt");
  if (flags.argument == "-") return read_text_file("-");
  return argument_text(flags.argument, given.name());
}

void PrefillProgress::update(int64_t done, int64_t total) {
  if (!bar_) bar_.emplace(label_, static_cast<uint64_t>(total), "tokens", 1.0, quiet_);
  bar_->update(static_cast<uint64_t>(done));
}

}  // namespace fovea::cli
