#include "fovea/formats/hf_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file_kind.h"
#include "fovea/base/json.h"
#include "fovea/base/text_file.h"
#include "fovea/base/utf8.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/safetensors.h"

namespace fovea::formats {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_within(const fs::path& path, const fs::path& folder) {
  const auto [end, _] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

// X/blobs of X/snapshots/REVISION: where the links of the hub's cache lead.
fs::path blobs_of(const fs::path& folder) {
  const fs::path snapshots = folder.parent_path();
  return snapshots.filename() == "snapshots" ? snapshots.parent_path() / "blobs" : fs::path();
}

std::string_view chars(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

// Fills a folder, step by step. Files are mapped once and stay, so that one that changes underneath is found out.
class HfReader {
 public:
  HfReader(const std::string& folder, const SourceOptions& options) : path_(folder), options_(options) {
    out_.name_ = quote(folder, 4096);
  }

  Result<HfFolder> run() {
    std::error_code error;
    real_ = fs::canonical(path_, error);
    if (error) return file_error(path_, "open", error.value());
    FOVEA_RETURN_IF_ERROR(read_config());
    FOVEA_RETURN_IF_ERROR(read_weights());
    FOVEA_RETURN_IF_ERROR(read_generation_config());
    FOVEA_RETURN_IF_ERROR(read_tokenizer());
    FOVEA_RETURN_IF_ERROR(read_template());
    FOVEA_RETURN_IF_ERROR(read_modules());
    if (options_.strict && !out_.warnings_.empty()) return make_error(ErrorCode::kData, "{}", out_.warnings_[0]);
    FOVEA_RETURN_IF_ERROR(out_.check_intact());
    return std::move(out_);
  }

 private:
  std::string path_of(std::string_view name) const { return (fs::path(path_) / name).string(); }

  // A file with one of these endings, or nothing.
  std::string first_with(std::initializer_list<std::string_view> endings) const {
    std::error_code error;
    for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
      const std::string extension = it->path().extension().string();
      if (std::find(endings.begin(), endings.end(), extension) != endings.end()) return it->path().string();
    }
    return {};
  }

  // Null if there is no such file.
  Result<std::shared_ptr<const MappedFile>> map(const std::string& name, uint64_t max_bytes) {
    if (const auto known = mapped_.find(name); known != mapped_.end()) return known->second;
    const std::string path = path_of(name);
    std::error_code error;
    const fs::file_status status = fs::symlink_status(path, error);
    if (status.type() == fs::file_type::not_found) return std::shared_ptr<const MappedFile>();
    std::string target = path;
    if (status.type() == fs::file_type::symlink) {
      const fs::path real = fs::canonical(path, error);
      if (error) return file_error(path, "open", error.value());
      const fs::path blobs = blobs_of(real_);
      if (!is_within(real, real_) && (blobs.empty() || !is_within(real, blobs)))
        return make_error(ErrorCode::kData, "{}: a link that leads out of the folder, to {}", quote(path, 4096),
                          quote(real.string(), 4096));
      target = real.string();
    }
    FOVEA_ASSIGN_OR_RETURN(auto file, MappedFile::open(target));
    if (file->bytes().size() > max_bytes)
      return make_error(ErrorCode::kLimit, "{}: it has {} bytes; up to {} are allowed", quote(path, 4096),
                        file->bytes().size(), max_bytes);
    out_.files_.push_back(file);
    mapped_.emplace(name, file);
    return file;
  }

  // Nothing if there is no such file.
  Result<std::optional<Json>> json(const std::string& name, uint64_t max_bytes, bool list = false) {
    FOVEA_ASSIGN_OR_RETURN(const auto file, map(name, max_bytes));
    if (!file) return std::optional<Json>();
    const std::string what = quote(path_of(name), 4096);
    const std::string_view bytes = chars(file->bytes());
    FOVEA_RETURN_IF_ERROR(refuse_known_kinds(bytes.substr(0, kFileKindBytes), what));
    FOVEA_ASSIGN_OR_RETURN(Json parsed, parse_json(decode_marked(bytes).value_or(std::string(bytes)), what));
    if (parsed.is_array() != list || !(list || parsed.is_object()))
      return make_error(ErrorCode::kData, "{}: it is no JSON {}", what, list ? "list" : "object");
    return std::optional<Json>(std::move(parsed));
  }

  Status read_config() {
    FOVEA_ASSIGN_OR_RETURN(const auto config, json("config.json", HfFolder::kMaxConfigBytes));
    if (!config) return no_config();
    FOVEA_ASSIGN_OR_RETURN(out_.config_, translate_config(*config, quote(path_of("config.json"), 4096)));
    json_ = *config;
    out_.config_.keys.put("general.name", fs::path(real_).filename().string(), "the folder");
    out_.warnings_ = out_.config_.warnings;
    if (const auto text = config->find("text_config"); text != config->end() && text->is_object())
      ids_of(*text, "config.json");
    ids_of(*config, "config.json");
    return {};
  }

  Error no_config() const {
    for (const auto& [name, what] : {std::pair{"adapter_config.json", "an adapter (PEFT), not a language model"},
                                     std::pair{"model_index.json", "a pipeline for images, not a language model"}}) {
      std::error_code ignored;
      if (fs::exists(path_of(name), ignored))
        return make_error(ErrorCode::kUnsupported, "{}: this is {}", out_.name_, what);
    }
    if (const std::string gguf = first_with({".gguf"}); !gguf.empty())
      return make_error(ErrorCode::kData, "{}: not a model: the folder has no config.json; there is {}", out_.name_,
                        quote(gguf, 4096));
    for (const char* file : {"model/config.json", "model/adapter_config.json"}) {  // what a training leaves
      std::error_code ignored;
      if (fs::exists(path_of(file), ignored))
        return make_error(ErrorCode::kData, "{}: not a model: the folder has no config.json; what was trained is in {}",
                          out_.name_, quote(path_of("model"), 4096));
    }
    return make_error(ErrorCode::kData, "{}: not a model: the folder has no config.json", out_.name_);
  }

  Status read_weights() {
    FOVEA_ASSIGN_OR_RETURN(const bool single, add_file(kSingle, nullptr));
    if (!single) {
      FOVEA_ASSIGN_OR_RETURN(const auto index, json(kIndex, HfFolder::kMaxIndexBytes));
      if (!index) return no_weights();
      FOVEA_RETURN_IF_ERROR(read_shards(*index));
    }
    return name_weights();
  }

  Error no_weights() const {
    if (const std::string pickle = first_with({".bin", ".pt", ".pth"}); !pickle.empty())
      return make_error(ErrorCode::kUnsupported,
                        "{}: a PyTorch pickle, which is never read: it may run code; save it as safetensors",
                        quote(pickle, 4096));
    return make_error(ErrorCode::kNotFound, "{}: there is neither {} nor {}", out_.name_, kSingle, kIndex);
  }

  // False if there is no such file. `wanted` are the tensors that an index says are in it; null: all are.
  Result<bool> add_file(const std::string& name, std::set<std::string>* wanted) {
    FOVEA_ASSIGN_OR_RETURN(const auto file, map(name, UINT64_MAX));
    if (!file) return false;
    FOVEA_ASSIGN_OR_RETURN(Safetensors parsed, parse_safetensors(file->bytes(), path_of(name)));
    size_t extra = 0;
    for (TensorInfo& tensor : parsed.tensors) {
      if (wanted && wanted->erase(tensor.name) == 0) {
        if (listed_.count(tensor.name))
          return Error{ErrorCode::kData,
                       fmt::format("{}: tensor {} is in it, but the index has it in another shard",
                                   quote(path_of(name), 4096), tensor.name),
                       "tensor " + tensor.name};
        ++extra;
        continue;
      }
      out_.tensors_.push_back(std::move(tensor));
    }
    if (wanted && !wanted->empty())
      return Error{ErrorCode::kData,
                   fmt::format("{}: tensor {} is not in it, but the index says so", quote(path_of(name), 4096),
                               quote(*wanted->begin())),
                   "tensor " + escaped_line(*wanted->begin())};
    if (extra > 0)
      out_.warnings_.push_back(
          fmt::format("{}: {} tensors that the index does not list are left out", quote(path_of(name), 4096), extra));
    return true;
  }

  Status read_shards(const Json& index) {
    const std::string name = quote(path_of(kIndex), 4096);
    const auto map = index.find("weight_map");
    if (map == index.end() || !map->is_object() || map->empty())
      return make_error(ErrorCode::kData, "{}: it has no weight_map", name);
    std::map<std::string, std::set<std::string>> shards;
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string()) return make_error(ErrorCode::kData, "{}: weight_map: {} has no file", name, quote(tensor));
      const auto& shard = file.get_ref<const std::string&>();
      const bool plain = shard.size() <= 255 && shard.ends_with(".safetensors") && !shard.starts_with('.') &&
                         std::none_of(shard.begin(), shard.end(), [](unsigned char c) { return c < 0x20 || c == '/'; });
      if (!plain)
        return make_error(ErrorCode::kData,
                          "{}: weight_map: {} is in {}; the name of a .safetensors file in this folder is needed", name,
                          quote(tensor), quote(shard));
      shards[shard].insert(tensor);
      listed_.insert(tensor);
      if (shards.size() > HfFolder::kMaxShards)
        return make_error(ErrorCode::kLimit, "{}: more than {} shards", name, HfFolder::kMaxShards);
    }
    for (auto& [shard, tensors] : shards) {
      FOVEA_ASSIGN_OR_RETURN(const bool there, add_file(shard, &tensors));
      if (!there)
        return make_error(ErrorCode::kNotFound, "{}: shard {} of {} is missing", name, quote(path_of(shard), 4096),
                          shards.size());
    }
    return {};
  }

  // The names that families know, whether the folder was saved with a head or without one.
  Status name_weights() {
    const HfConfig& config = out_.config_;
    std::vector<TensorInfo> kept;
    bool copied = false;
    for (TensorInfo& tensor : out_.tensors_) {
      std::string name = weight_name(tensor.name, config);
      if (name.empty()) out_.left_out_.push_back(tensor.name);
      tensor.name = std::move(name);
      if (tensor.name.empty() || (tensor.name == config.copied && std::exchange(copied, true))) continue;
      kept.push_back(std::move(tensor));
    }
    const auto is_head = [](const TensorInfo& t) { return t.name == "lm_head.weight" || t.name == "embed_out.weight"; };
    const bool bare = std::none_of(kept.begin(), kept.end(),
                                   [&](const TensorInfo& t) { return t.name.starts_with(config.tensor_prefix); });
    if (bare) {
      for (TensorInfo& tensor : kept) {
        if (!is_head(tensor)) tensor.name.insert(0, config.tensor_prefix);
      }
    }
    FOVEA_ASSIGN_OR_RETURN(out_.weights_, HfWeights::pair(kept, json_, out_.name_));
    out_.tensors_ = std::move(kept);
    for (size_t i = 0; i < out_.tensors_.size(); ++i) {
      const std::string& name = out_.tensors_[i].name;
      if (!out_.tensor_index_.emplace(name, i).second)
        return Error{ErrorCode::kData, fmt::format("{}: two tensors have the name {}", out_.name_, name),
                     "tensor " + name};
    }
    if (config.untied && std::none_of(out_.tensors_.begin(), out_.tensors_.end(), is_head))
      return make_error(ErrorCode::kData, "{}: there is no tensor lm_head.weight, and config.json says it is not tied",
                        out_.name_);
    return {};
  }

  void ids_of(const Json& object, const char* file) {
    for (const char* name : {"bos", "eos", "pad"}) {
      const std::string field = fmt::format("{}_token_id", name);
      const auto it = object.find(field);
      if (it == object.end() || it->is_null()) continue;
      const std::string key =
          fmt::format("tokenizer.ggml.{}_token_id", std::string_view(name) == "pad" ? "padding" : name);
      out_.config_.keys.erase(key);
      out_.config_.keys.put(key, *it, fmt::format("{} of {}", field, file));
    }
  }

  Status read_generation_config() {
    FOVEA_ASSIGN_OR_RETURN(const auto generation, json("generation_config.json", HfFolder::kMaxConfigBytes));
    if (generation) ids_of(*generation, "generation_config.json");
    return {};
  }

  Status read_tokenizer() {
    for (const auto& [name, member] : kTokenizerFiles) {
      if (!(out_.tokenizer_.*member).empty()) continue;
      FOVEA_ASSIGN_OR_RETURN(const auto file, map(name, HfFolder::kMaxTokenizerBytes));
      if (!file) continue;
      out_.tokenizer_.*member = chars(file->bytes());
      if (file->bytes().empty() && out_.tokenizer_.tokenizer_json.empty() && out_.empty_file_.empty())
        out_.empty_file_ = path_of(name);
    }
    return {};
  }

  // One template, or a list of named ones: "default" is the one in use, as GGUF has it.
  Status put_template(const Json& value, const std::string& file) {
    const auto put = [&](const std::string& key, const Json& text) -> Status {
      if (!text.is_string()) return make_error(ErrorCode::kData, "{}: chat_template: it is no text", file);
      if (text.get_ref<const std::string&>().size() > Gguf::kMaxTemplateBytes)
        return make_error(ErrorCode::kLimit, "{}: chat_template: longer than {} bytes", file, Gguf::kMaxTemplateBytes);
      out_.config_.keys.put(key, text, file);
      return {};
    };
    if (value.is_null()) return {};
    if (!value.is_array()) return put("tokenizer.chat_template", value);
    for (const Json& one : value) {
      const auto name = one.is_object() ? one.find("name") : one.end();
      if (!one.is_object() || name == one.end() || !name->is_string() || !one.contains("template"))
        return make_error(ErrorCode::kData, "{}: chat_template: a name and a template are needed", file);
      const std::string key = *name == "default" ? "" : "." + name->get<std::string>();
      FOVEA_RETURN_IF_ERROR(put("tokenizer.chat_template" + key, one["template"]));
    }
    return {};
  }

  Status read_template() {
    FOVEA_ASSIGN_OR_RETURN(const auto jinja, map("chat_template.jinja", Gguf::kMaxTemplateBytes));
    if (jinja) {
      if (!is_utf8(chars(jinja->bytes())))
        return make_error(ErrorCode::kData, "{}: it is not UTF-8", quote(path_of("chat_template.jinja"), 4096));
      out_.config_.keys.put("tokenizer.chat_template", chars(jinja->bytes()), "chat_template.jinja");
    }
    for (const auto& [name, max] : {std::pair{"chat_template.json", HfFolder::kMaxConfigBytes},
                                    std::pair{"tokenizer_config.json", HfFolder::kMaxIndexBytes}}) {
      if (out_.config_.keys.has("tokenizer.chat_template")) break;
      FOVEA_ASSIGN_OR_RETURN(const auto object, json(name, max));
      if (!object || !object->contains("chat_template")) continue;
      FOVEA_RETURN_IF_ERROR(put_template((*object)["chat_template"], quote(path_of(name), 4096)));
    }
    return {};
  }

  // How vectors of texts are made: pooling_type as GGUF has it, and under kSentence* what else is to be known.
  Status read_modules() {
    FOVEA_ASSIGN_OR_RETURN(const auto modules, json("modules.json", HfFolder::kMaxConfigBytes, /*list=*/true));
    std::string pooling = modules ? "" : "1_Pooling";
    const auto text = [](const Json& object, const char* name) {
      const auto it = object.is_object() ? object.find(name) : object.end();
      return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    for (const Json& module : modules.value_or(Json::array())) {
      const std::string type = text(module, "type");
      const std::string kind = type.substr(type.rfind('.') == type.npos ? 0 : type.rfind('.') + 1);
      if (kind == "Pooling") {
        pooling = text(module, "path");
      } else if (kind != "Transformer" && kind != "Normalize") {
        out_.config_.keys.put(std::string(kSentenceModule), kind, "modules.json");
      }
    }
    FOVEA_RETURN_IF_ERROR(read_pooling(pooling));
    FOVEA_ASSIGN_OR_RETURN(const auto limits, json("sentence_bert_config.json", HfFolder::kMaxConfigBytes));
    const auto n = limits ? limits->find("max_seq_length") : Json::const_iterator();
    if (limits && n != limits->end() && !n->is_null()) {
      out_.config_.keys.put(std::string(kSentenceTokens), *n, "max_seq_length of sentence_bert_config.json");
    } else if (modules) {
      FOVEA_RETURN_IF_ERROR(read_longest());
    }
    if (!limits) return {};
    const auto lower = limits->find("do_lower_case");
    if (lower == limits->end()) return {};
    FOVEA_ASSIGN_OR_RETURN(const bool lowers, flag("do_lower_case", *lower, "sentence_bert_config.json"));
    if (lowers) out_.config_.keys.put(std::string(kSentenceModule), "do_lower_case", "sentence_bert_config.json");
    return {};
  }

  // What sentence-transformers goes by where that file does not say it; a huge number stands for none.
  Status read_longest() {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, json("tokenizer_config.json", HfFolder::kMaxIndexBytes));
    if (!tokenizer) return {};
    const auto n = tokenizer->find("model_max_length");
    if (n != tokenizer->end() && n->is_number() && n->get<double>() >= 1 && n->get<double>() < 1e9)
      out_.config_.keys.put(std::string(kSentenceTokens), n->get<int64_t>(),
                            "model_max_length of tokenizer_config.json");
    return {};
  }

  Result<bool> flag(const std::string& name, const Json& value, const std::string& file) const {
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_null()) return false;
    return make_error(ErrorCode::kData, "{}: {} is neither true nor false", quote(path_of(file), 4096), quote(name));
  }

  // `folder` is a part of this one, and no link.
  Status read_pooling(const std::string& folder) {
    std::error_code ignored;
    if (folder.empty() || !fs::is_directory(fs::symlink_status(fs::path(path_) / folder, ignored))) return {};
    if (folder.find('/') != folder.npos || folder.starts_with('.'))
      return make_error(ErrorCode::kData, "{}: modules.json: path {} is no folder in this one", out_.name_,
                        quote(folder));
    FOVEA_ASSIGN_OR_RETURN(const auto config, json(folder + "/config.json", HfFolder::kMaxConfigBytes));
    if (!config) return {};
    constexpr std::pair<std::string_view, int> kKnown[] = {{"pooling_mode_mean_tokens", 1}, {"mean", 1},
                                                           {"pooling_mode_cls_token", 2},   {"cls", 2},
                                                           {"pooling_mode_lasttoken", 3},   {"lasttoken", 3}};
    int type = 0, n = 0;
    std::string other;
    const auto use = [&](const std::string& name) {
      ++n, other = name;
      for (const auto& [known, number] : kKnown) {
        if (name == known) type = number;
      }
    };
    const std::string file = folder + "/config.json";
    if (const auto modes = config->find("pooling_mode"); modes != config->end()) {  // sentence-transformers 6
      for (const Json& mode : modes->is_array() ? *modes : Json::array({*modes})) {
        if (!mode.is_string())
          return make_error(ErrorCode::kData, "{}: {} is no name", quote(path_of(file), 4096), quote("pooling_mode"));
        use(mode.get<std::string>());
      }
    } else {
      for (const auto& [name, value] : config->items()) {
        if (!name.starts_with("pooling_mode_")) continue;
        FOVEA_ASSIGN_OR_RETURN(const bool used, flag(name, value, file));
        if (used) use(name);
      }
    }
    if (n == 1 && type > 0) {
      out_.config_.keys.put(out_.config_.architecture + ".pooling_type", type, other + " of " + folder);
    } else if (n > 0) {
      out_.config_.keys.put(std::string(kSentenceModule), n > 1 ? "several pooling modes" : other, folder);
    }
    return {};
  }

  std::string path_;
  fs::path real_;
  SourceOptions options_;
  std::set<std::string> listed_;  // in the index
  std::map<std::string, std::shared_ptr<const MappedFile>> mapped_;
  Json json_;  // config.json
  HfFolder out_;
};

Result<std::shared_ptr<const HfFolder>> HfFolder::open(const std::string& folder, const SourceOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(HfFolder model, HfReader(folder, options).run());
  return std::shared_ptr<const HfFolder>(std::make_shared<HfFolder>(std::move(model)));
}

std::optional<std::string> HfFolder::folder_of(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return path;
  const std::string name = fs::path(path).filename().string();
  const bool ours =
      name == "config.json" || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
  if (!ours) return std::nullopt;
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

int64_t HfFolder::block_of(std::string_view tensor) const {
  for (const std::string_view list : {"layers.", "layer.", "h.", "block.", "blocks."}) {
    const size_t found = tensor.find(list);
    if (found == tensor.npos || (found > 0 && tensor[found - 1] != '.')) continue;
    int64_t block = -1;
    const char *begin = tensor.data() + found + list.size(), *end = tensor.data() + tensor.size();
    const auto [after, error] = std::from_chars(begin, end, block);
    if (error == std::errc() && after < end && *after == '.') return block;
  }
  return -1;
}

Result<double> HfFolder::get_f64(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const double value, keys().get_f64(key));
  constexpr double kMost = std::numeric_limits<float>::max();
  return std::abs(value) <= kMost ? static_cast<double>(static_cast<float>(value)) : value;
}

bool HfFolder::has_vocabulary() const {
  const tokenizers::TokenizerFiles& files = tokenizer_;
  return !files.tokenizer_json.empty() || !files.tokenizer_model.empty() || !files.vocab_json.empty() ||
         !files.vocab_txt.empty() || !empty_file_.empty();
}

Result<tokenizers::Vocabulary> HfFolder::vocabulary() const {
  if (!empty_file_.empty()) return make_error(ErrorCode::kData, "{}: the file is empty", quote(empty_file_, 4096));
  tokenizers::Vocabulary v;
  v.name = name();
  v.kind = "files";
  v.files = tokenizer_;
  const auto n_tokens = get_u64(config_.architecture + ".vocab_size");
  for (const auto& [what, id] : {std::pair{"bos", &v.bos}, {"eos", &v.eos}, {"padding", &v.padding}}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", what);
    const nlohmann::ordered_json* value = config_.keys.find(key);
    if (!value) continue;
    const auto ids = value->is_array() ? *value : nlohmann::ordered_json::array({*value});
    for (const auto& one : ids) {
      if (!one.is_number_integer() || (one.is_number_unsigned() && one.get<uint64_t>() > INT32_MAX))
        return Error{ErrorCode::kData, fmt::format("{}: {} is no id of a token", name(), called(key)), key};
      const auto n = one.get<int64_t>();
      if (n < 0) continue;  // there is none
      if (n_tokens && static_cast<uint64_t>(n) >= n_tokens.value())
        return Error{
            ErrorCode::kData,
            fmt::format("{}: {} is {}; the vocabulary has {} tokens", name(), called(key), n, n_tokens.value()), key};
      if (*id < 0) {
        *id = static_cast<int32_t>(n);
      } else if (id == &v.eos) {
        v.more_ends.push_back(static_cast<int32_t>(n));
      }
    }
  }
  return v;
}

}  // namespace fovea::formats
