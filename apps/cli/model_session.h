// What every command that runs a model shares: its flags, the prompt's source, loading with a
// progress bar, a session. A command keeps a ModelFlags (and SamplingFlags if it answers), and an
// Interrupt while it works:
//
//   FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, opts->model));
//   FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, opts->model));
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/cli/progress.h"
#include "apps/cli/ranges.h"
#include "fovea/engine/generate.h"
#include "fovea/engine/model.h"
#include "fovea/engine/session.h"
#include "fovea/tasks/auto_attention.h"

namespace fovea::cli {

struct ModelFlags {
  int n_ctx = 0;                           // 0: what the model was trained for
  int chunk = 512, most_at_once = 65'536;  // tokens of one pass: the smaller of the two
  std::string attention = "dense", profile, repack = "auto", cache_type = "auto", quantize;
  std::string k_cache_type, v_cache_type;  // in place of cache_type, if not empty
  bool decodes = true;                     // not a flag: whether the command decodes at all
  bool repack_late = true;                 // not a flag: a command that times something has it done at load
  std::vector<std::string> loras;          // PATH[=SCALE]
  std::string masks;                       // a file
  std::string soft_prompt;                 // of commands that have add_soft_prompt_flag()
};
// -m, --numerics, -c, -b, -ub, --attention, --profile, --cache-type, --repack, --quantize, --lora, --masks. A command
// may set other defaults in `flags` and common.model before; with a default model, `model_required` is false.
void add_model_flags(CommandLine& sub, Common& common, ModelFlags& flags, bool model_required = true);

// --lora PATH[=SCALE], repeated, and --masks; and what they ask for of a model: null without any.
void add_adapter_flags(CommandLine& sub, ModelFlags& flags);
Result<std::shared_ptr<const tensor::Adapters>> load_adapters(const engine::Model& model, const ModelFlags& flags);

// --soft-prompt FILE; and an empty sequence, or one that holds its rows. kLimit, before any work, where the context
// does not hold them and `n_tokens` more.
void add_soft_prompt_flag(CommandLine& sub, ModelFlags& flags);
Result<engine::SequenceId> begin_sequence(engine::Session& session, const ModelFlags& flags, int64_t n_tokens);

// --lookup: what is drafted of an answer from the text before it. Checked while the options are parsed.
void add_lookup_flag(CommandLine& sub, engine::LookupOptions& lookup);

struct SamplingFlags {
  engine::LookupOptions lookup;
  int n_predict = -1;  // -1: until the model ends or the context is full
  engine::SamplingOptions sampling;
  Seed seed;
  std::vector<std::string> logit_bias, stop;
  bool ignore_eos = false;
};
// -n, -s, --temp, --top-k, --top-p, --min-p, the penalties, --repeat-last-n, --logit-bias, --stop, --lookup.
void add_sampling_flags(CommandLine& sub, SamplingFlags& flags);
// What generate() takes; its prefill and decode stop at Interrupt's flag.
Result<engine::GenerateOptions> generate_options(const SamplingFlags& flags, const engine::Model& model);

// The model of -m, with a bar while it loads. kCancelled after Ctrl+C.
Result<std::shared_ptr<const engine::Model>> load_model(const Common& common, const ModelFlags& flags);
// n_tokens: of the prompt, for --attention auto; 0: not known.
Result<std::unique_ptr<engine::Session>> open_session(std::shared_ptr<const engine::Model> model, const Common& common,
                                                      const ModelFlags& flags, int64_t n_tokens = 0);
// What --attention auto is for a prompt, from the model's metadata alone; none where something else was asked for.
Result<std::optional<tasks::AutoChoice>> choose_attention(const Common& common, const ModelFlags& flags,
                                                          const std::string& path, const attention::ModelShape& shape,
                                                          int64_t n_tokens);
void tell_choice(const Common& common, const tasks::AutoChoice& choice, int64_t n_tokens);  // on stderr
// What the flags ask of a session, for commands that need another one beside it.
Result<engine::SessionOptions> session_options(const engine::Model& model, const Common& common,
                                               const ModelFlags& flags, int64_t n_tokens = 0);

// kLimit with both numbers if `n_tokens` do not fit the session: said before any work.
Status check_prompt_fits(const engine::Session& session, int64_t n_tokens);

// kUsage for a context over what the model was trained for.
Status check_context(const ModelFlags& flags, const attention::ModelShape& shape);
// Tokens that a sequence may have with the attention asked for (engine::context_of), whatever --ctx-size says.
int context_of(const ModelFlags& flags, const attention::ModelShape& shape);
// What --cache-type, --cache-type-k and --cache-type-v mean with these numerics.
attention::CacheTypes cache_type_of(const Common& common, const ModelFlags& flags);
// Memory that programs can have without swapping, as the kernel estimates it; 0: not known.
uint64_t available_bytes();

// A text given as an argument, with -p, with -f, or on stdin ("-"); one of them.
struct TextFlags {
  std::string argument, prompt, file;
  std::vector<Option> options;  // to tell an empty text from none
};
// `what` names the argument in help and messages: "PROMPT", "TEXT".
void add_text_flags(CommandLine& sub, TextFlags& flags, const std::string& what, bool with_prompt_flag);
// kUsage if none or more than one was given.
Result<Option> the_one_given(const TextFlags& flags);
// The same; the text itself may be empty.
Result<std::string> read_text(const TextFlags& flags);

// A bar over the tokens of a prefill, for PrefillOptions::progress.
class PrefillProgress {
 public:
  PrefillProgress(const Common& common, std::string label) : label_(std::move(label)), quiet_(common.quiet) {}
  void update(int64_t done, int64_t total);
  void clear() { bar_.reset(); }

 private:
  std::string label_;
  bool quiet_;
  std::optional<Progress> bar_;
};

}  // namespace fovea::cli
