// Small tokenizers of every kind and with every component, against what the published libraries make of the same texts
// (tools/make_tokenizer_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/tokenizers/base64.h"
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace tokenizer_goldens_test {

using Json = nlohmann::ordered_json;
using Ids = std::vector<int32_t>;

const Json& goldens() {
  static const Json all = [] {
    std::ifstream in(source_dir() + "/tests/golden/tokenizers.json");
    return Json::parse(in);
  }();
  return all;
}

// The mixed text in blocks of 40 lines.
const std::vector<std::string>& blocks() {
  static const std::vector<std::string> all = [] {
    std::istringstream text(read_file(source_dir() + "/tests/golden/tokens/mixed.txt").value());
    std::vector<std::string> out;
    size_t n = 0;
    for (std::string line; std::getline(text, line); ++n) {
      if (line.ends_with('\r')) line.pop_back();
      if (n % 40 == 0) {
        out.push_back(line);
      } else {
        out.back() += "\n" + line;
      }
    }
    // Characters that other versions of Unicode know otherwise.
    const auto dropped = goldens()["dropped"].get<std::string>();
    for (const char *p = dropped.data(), *end = p + dropped.size(); p < end;) {
      const std::string c(p, code_point_at(p, end).bytes);
      p += c.size();
      for (std::string& block : out) {
        for (size_t at = block.find(c); at != block.npos; at = block.find(c, at)) block.erase(at, c.size());
      }
    }
    return out;
  }();
  return all;
}

uint32_t id_hash(const Ids& ids) {
  uint64_t h = 14695981039346656037u;
  for (const int32_t id : ids) h = (h ^ static_cast<uint64_t>(id)) * 1099511628211u;
  return static_cast<uint32_t>(h);
}

void expect_golden(const Vocabulary& v, const Json& golden, bool parse_special) {
  const auto made = Tokenizer::create(v);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const Tokenizer& t = **made;
  const EncodeOptions options{.parse_special = parse_special};
  for (size_t i = 0; i < goldens()["texts"].size(); ++i) {
    const auto text = goldens()["texts"][i].get<std::string>();
    std::vector<uint32_t> offsets;
    const auto ids = t.encode(text, options, &offsets);
    ASSERT_TRUE(ids.has_value()) << ids.error().message;
    if (golden["ids"][i].is_null()) continue;
    EXPECT_EQ(*ids, golden["ids"][i].get<Ids>()) << testing::PrintToString(text);
    ASSERT_EQ(offsets.size(), ids->size());
    EXPECT_TRUE(std::is_sorted(offsets.begin(), offsets.end())) << testing::PrintToString(text);
    EXPECT_TRUE(offsets.empty() || offsets.back() <= text.size());
    EXPECT_EQ(*t.encode(text, options), *ids) << "with and without offsets";
    const std::string back = replace_invalid_utf8(*t.decode(*ids));
    if (!golden["decoded"][i].is_null() && back.find("\xEF\xBF\xBD") == back.npos) {
      EXPECT_EQ(back, golden["decoded"][i].get<std::string>()) << testing::PrintToString(text);
    }
    StreamDecoder stream(t);
    std::string streamed;
    for (const int32_t id : *ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.finish(), back) << testing::PrintToString(text);
  }
  for (size_t i = 0; i < golden["blocks"].size(); ++i) {
    ASSERT_EQ(id_hash(*t.encode(blocks()[i], options)), golden["blocks"][i].get<uint32_t>())
        << "block " << i << " of the mixed text";
  }
}

// A tokenizer.json as tokenizer_cases.py makes it: fields of `rest` that are none of the file's own belong to the
// model.
std::string whole_json(const Json& golden) {
  Json out = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", Json::array()}};
  for (const char* key : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) out[key] = nullptr;
  Json model = goldens()["models"][golden["model"].get<std::string>()];
  for (const auto& [key, value] : golden["rest"].items()) (out.contains(key) ? out : model)[key] = value;
  out["model"] = std::move(model);
  return out.dump();
}

class FromJson : public ::testing::TestWithParam<std::string> {};
TEST_P(FromJson, EqualsTheReference) {
  const Json& golden = goldens()["json"][GetParam()];
  const std::string json = whole_json(golden);
  Vocabulary v;
  v.name = GetParam();
  v.kind = "files";
  v.files.tokenizer_json = json;
  expect_golden(v, golden, true);
}

class FromModel : public ::testing::TestWithParam<std::string> {};
TEST_P(FromModel, EqualsTheReference) {
  const Json& golden = goldens()["files"][GetParam()];
  const std::string model = from_base64(golden["model"].get<std::string>());
  Vocabulary v;
  v.name = GetParam();
  v.kind = "files";
  v.files.tokenizer_model = model;
  v.files.tokenizer_config = R"({"add_bos_token": false, "legacy": false})";
  expect_golden(v, golden, false);
}

std::vector<std::string> names(const char* group) {
  std::vector<std::string> out;
  for (const auto& [name, golden] : goldens()[group].items()) out.push_back(name);
  return out;
}
std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Tokenizers, FromJson, ::testing::ValuesIn(names("json")), test_name);
INSTANTIATE_TEST_SUITE_P(Tokenizers, FromModel, ::testing::ValuesIn(names("files")), test_name);

}  // namespace tokenizer_goldens_test
}  // namespace fovea::tokenizers
