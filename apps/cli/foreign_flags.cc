#include "apps/cli/foreign_flags.h"

namespace fovea::cli {
namespace {

constexpr std::string_view kNoGpu = "everything runs on the CPU here";
constexpr std::string_view kOneThreadPool = "--threads counts for prompts and answers alike";
constexpr std::string_view kPlacement = "threads are placed by the system; taskset and nice change that";
constexpr std::string_view kMapped = "the model file is mapped, and read as it is used";
constexpr std::string_view kPositions = "positions are scaled as the model file says";
constexpr std::string_view kNoDraftModel = "there is no draft model here; --lookup drafts from the text itself";
constexpr std::string_view kFetching =
    "models are fetched by name (fovea pull NAME), and -m takes the path of any .gguf file";
constexpr std::string_view kNoSampler = "this way of sampling is not here; fovea run --help lists those that are";
constexpr std::string_view kNoGrammar = "answers cannot be held to a grammar yet";
constexpr std::string_view kNoImages = "models that see are not here yet";
constexpr std::string_view kNoVectors = "control vectors are not here yet";
constexpr std::string_view kNoThinking = "an answer is given as the model wrote it";
constexpr std::string_view kNoShift = "a full context ends the answer; --attention streaming-llm goes on";

using enum Takes;
using enum Becomes;

constexpr ForeignFlag kFlags[] = {
    // where it runs
    {"-ngl,--gpu-layers,--n-gpu-layers", kValue, kWarning, kNoGpu, "0,auto"},
    {"-sm,--split-mode", kValue, kWarning, kNoGpu, "none"},
    {"-ts,--tensor-split", kValue, kWarning, kNoGpu},
    {"-mg,--main-gpu", kValue, kWarning, kNoGpu},
    {"-dev,--device", kValue, kWarning, kNoGpu, "none"},
    {"-ot,--override-tensor", kValue, kWarning, kNoGpu},
    {"-cmoe,--cpu-moe", kNothing, kSilent, ""},
    {"-ncmoe,--n-cpu-moe", kValue, kSilent, ""},
    {"-kvo,--kv-offload", kNothing, kWarning, kNoGpu},
    {"-nkvo,--no-kv-offload", kSwitch, kSilent, ""},
    {"--op-offload", kNothing, kWarning, kNoGpu},
    {"--no-op-offload,--no-host", kNothing, kSilent, ""},
    {"-fit,--fit", kValue, kWarning, kNoGpu, "off"},
    {"-fitt,--fit-target", kValue, kWarning, kNoGpu},
    {"-fitc,--fit-ctx", kValue, kWarning, kNoGpu},
    {"--list-devices", kNothing, kRefused, kNoGpu},
    {"--rpc", kValue, kRefused, kNoGpu},
    // threads and memory
    {"-tb,--threads-batch", kValue, kWarning, kOneThreadPool},
    {"-C,--cpu-mask,-Cr,--cpu-range,-Cb,--cpu-mask-batch,-Crb,--cpu-range-batch", kValue, kWarning, kPlacement},
    {"--cpu-strict,--cpu-strict-batch,--prio,--prio-batch,--numa", kValue, kWarning, kPlacement, "0"},
    {"--poll,--poll-batch", kValue, kWarning, kPlacement},
    {"--mmap", kNothing, kSilent, ""},
    {"-mmp", kValue, kWarning, kMapped, "1"},
    {"--no-mmap,--mlock,-dio,--direct-io", kNothing, kWarning, kMapped},
    {"-ndio,--no-direct-io", kNothing, kSilent, ""},
    {"-lm,--load-mode", kValue, kWarning, kMapped, "auto,mmap"},
    {"-ctk", kValue, kOption, "--cache-type-k"},
    {"-ctv", kValue, kOption, "--cache-type-v"},
    {"-nr,--no-repack", kNothing, kOption, "--repack=off"},
    {"-dt,--defrag-thold", kValue, kWarning, "the cache of keys and values is paged"},
    {"-np,--parallel", kValue, kWarning, "one prompt is answered at a time", "1"},
    {"-cb,--cont-batching,-nocb,--no-cont-batching,--swa-full", kNothing, kWarning, "one prompt is answered at a time"},
    {"-ub,--ubatch-size", kValue, kOption, "--ubatch-size"},
    {"-ctkd,--cache-type-k-draft,-ctvd,--cache-type-v-draft", kValue, kRefused, kNoDraftModel},
    {"-ctxcp,--ctx-checkpoints,-cram,--cache-ram", kValue, kWarning, "--prefix-cache keeps what was read"},
    {"--keep", kValue, kRefused, kNoShift, "0"},
    {"--context-shift", kNothing, kRefused, kNoShift},
    {"--no-context-shift", kNothing, kSilent, ""},
    // attention and positions
    {"-fa,--flash-attn", kSwitch, kWarning, "attention is always computed block by block", ",on,auto,1,true,enabled"},
    {"--rope-scaling,--rope-scale,--rope-freq-base,--rope-freq-scale,--yarn-orig-ctx,--yarn-ext-factor,"
     "--yarn-attn-factor,--yarn-beta-slow,--yarn-beta-fast,-gan,--grp-attn-n,-gaw,--grp-attn-w",
     kValue, kRefused, kPositions},
    // models
    {"-mu,--model-url,-hf,-hfr,--hf-repo,-hff,--hf-file,-hft,--hf-token,-dr,--docker-repo", kValue, kRefused,
     kFetching},
    {"-cl,--cache-list", kNothing, kRefused, "fovea list shows the models that are here"},
    {"--offline", kNothing, kSilent, ""},
    {"--lora-scaled", kValue, kRefused, "--lora PATH=SCALE says how strongly an adapter counts"},
    {"--control-vector,--control-vector-scaled,--control-vector-layer-range", kValue, kRefused, kNoVectors},
    {"--override-kv", kValue, kRefused, "the model file's keys are taken as they are"},
    {"--check-tensors", kNothing, kRefused, "fovea check MODEL reads every weight"},
    {"-mm,--mmproj,-mmu,--mmproj-url,-mmdev,--image,--audio,--video,--image-min-tokens,--image-max-tokens", kValue,
     kRefused, kNoImages},
    {"--no-mmproj,--no-mmproj-auto,--no-mmproj-offload", kNothing, kSilent, ""},
    {"-md,--model-draft,-hfd,-hfrd,--hf-repo-draft,-td,--threads-draft,-tbd,--threads-batch-draft,-cd,"
     "--ctx-size-draft,-ngld,--gpu-layers-draft,--n-gpu-layers-draft,-devd,--device-draft,-otd,"
     "--override-tensor-draft,-Cd,--cpu-mask-draft,-Crd,--cpu-range-draft,-ncmoed,--n-cpu-moe-draft,--draft,"
     "--draft-n,--draft-max,--draft-min,--draft-n-min,--draft-p-min,--draft-p-split,--spec-type",
     kValue, kRefused, kNoDraftModel},
    {"-cmoed,--cpu-moe-draft,--spec-default", kNothing, kRefused, kNoDraftModel},
    {"--imatrix", kValue, kOption, "--importance"},
    {"--outfile", kValue, kRefused, "the file to write stands behind the model: fovea convert IN OUT"},
    {"--outtype,--ftype", kValue, kRefused, "fovea quantize IN OUT --type TYPE makes other types"},
    {"--leave-output-tensor,--pure", kNothing, kRefused, "which tensors change, --dry-run says"},
    {"--output-tensor-type,--token-embedding-type,--tensor-type", kValue, kRefused, "--type is of the whole model"},
    // prompts and conversations
    {"-sys,--system-prompt", kValue, kOption, "--system"},
    {"-sysf,--system-prompt-file", kValue, kRefused, "--system takes the text: --system \"$(cat FILE)\""},
    {"-bf,--binary-file", kValue, kRefused, "a prompt is text (-f FILE)"},
    {"-e,--escape", kNothing, kRefused, "a text is taken as it is; the shell has $'a\\nb'"},
    {"--no-escape", kNothing, kSilent, ""},
    {"-i,--interactive,-if,--interactive-first,-cml,--chatml,-ins,--instruct", kNothing, kRefused,
     "fovea chat holds a conversation"},
    {"-mli,--multiline-input", kNothing, kRefused,
     "a turn of fovea chat is one line; a text of several: fovea run -f FILE"},
    {"--in-prefix,--in-suffix", kValue, kRefused, "the model's chat template says what stands around a turn"},
    {"--in-prefix-bos", kNothing, kRefused, "the model's chat template says what stands around a turn"},
    {"-r,--reverse-prompt", kValue, kOption, "--stop"},
    {"--jinja", kNothing, kSilent, ""},
    {"--no-jinja", kNothing, kRefused, "chat templates are Jinja; --raw leaves them out"},
    {"--chat-template-kwargs", kValue, kRefused, "see fovea template --help for what a template can be given"},
    {"-rea,--reasoning,--reasoning-format,--reasoning-effort,--reasoning-budget,--reasoning-budget-message", kValue,
     kRefused, kNoThinking, "auto,none"},
    {"--skip-chat-parsing,--no-skip-chat-parsing", kNothing, kSilent, ""},
    // sampling
    {"--samplers,--sampler-seq,--sampling-seq,--top-nsigma,--top-n-sigma,--xtc-probability,--xtc-threshold,--typical,"
     "--typical-p,--dry-multiplier,--dry-base,--dry-allowed-length,--dry-penalty-last-n,--dry-sequence-breaker,"
     "--adaptive-target,--adaptive-decay,--dynatemp-range,--dynatemp-exp,--mirostat,--mirostat-lr,--mirostat-ent",
     kValue, kRefused, kNoSampler},
    {"-bs,--backend-sampling", kNothing, kWarning, kNoGpu},
    {"-l", kValue, kOption, "--logit-bias"},
    {"--predict,--max-tokens,--max-new-tokens,--max_tokens,--max_new_tokens", kValue, kOption, "--n-predict"},
    {"--temperature", kValue, kOption, "--temp"},
    {"--dtype,--torch-dtype,--torch_dtype", kValue, kRefused,
     "weights are read as they are stored; --quantize TYPE changes them", "auto"},
    {"--load-in-8bit,--load_in_8bit,--load-in-4bit,--load_in_4bit", kNothing, kRefused,
     "--quantize q8_0 or q4_k changes the weights as they are read"},
    {"--grammar,--grammar-file,-j,--json-schema,-jf,--json-schema-file", kValue, kRefused, kNoGrammar},
    // output
    {"-lv,--verbosity,--log-verbosity", kValue, kWarning, "-q says less, -v and -vv say more"},
    {"--log-verbose", kNothing, kOption, "--verbose"},
    {"--log-disable", kNothing, kOption, "--quiet"},
    {"--log-colors", kSwitch, kWarning, "what is logged has no colours", "auto,off,0"},
    {"-co,--color", kSwitch, kWarning, "an answer has no colours", "auto,off,0"},
    {"--log-prefix,--log-timestamps,--no-log-prefix,--no-log-timestamps", kNothing, kWarning,
     "lines are logged in one form"},
    {"-ptc,--print-token-count,--verbose-prompt,--display-prompt", kNothing, kWarning, "-v says more of a run"},
    {"--no-display-prompt,--simple-io,--warmup,--no-warmup,--perf,--no-perf,--show-timings,--no-show-timings", kNothing,
     kSilent, ""},
    {"-sp,--special", kNothing, kWarning, "--json gives every token of an answer"},
    {"-pg", kValue, kRefused, "give -p and -n, and -d for tokens generated behind a prompt"},
    {"-oe", kValue, kRefused, "the report is printed once; --json for programs"},
    {"--ppl-stride,--ppl-output-type", kValue, kRefused, "windows do not overlap (fovea perplexity --help)"},
};

}  // namespace

std::span<const ForeignFlag> foreign_flag_table() { return kFlags; }

}  // namespace fovea::cli
