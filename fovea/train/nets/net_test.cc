#include "fovea/train/nets/net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fovea/base/testing/paths.h"
#include "fovea/models/support/config.h"

namespace fovea::train {
namespace net_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

TEST(Nets, SayTheirSizesAsAFolderWould) {
  Settings s(
      Json{{"d_model", 64}, {"n_layers", 3}, {"n_heads", 4}, {"n_kv_heads", 2}, {"vocab_size", 50}, {"tied", true}},
      "f.json");
  const auto net = make_part<Net>(s, "net", "llama", {.context = 32});
  ASSERT_NE(net, nullptr);
  EXPECT_TRUE(s.finish().has_value());
  const auto source = source_of(net->config(), {}, "a net");
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto sizes = models::read_sizes(**source);
  ASSERT_TRUE(sizes.has_value()) << sizes.error().message;
  EXPECT_EQ(sizes->n_layers, 3);
  EXPECT_EQ(sizes->head_dim, 16);
  EXPECT_EQ(sizes->d_ff, 256);
  EXPECT_EQ(sizes->n_ctx, 32);
  EXPECT_TRUE(net->config()["tie_word_embeddings"].get<bool>());
}

TEST(Nets, TheirTokenizerComesOutOfAFolderOrIsTheBytes) {
  const auto bytes = tokenizer_files("bytes");
  ASSERT_TRUE(bytes.has_value());
  EXPECT_EQ((*bytes)[0].name, "tokenizer.json");
  EXPECT_EQ(Json::parse((*bytes)[0].content)["model"]["vocab"].size(), 256u);
  const auto folder = tokenizer_files(source_dir() + "/tests/data/tiny-llama-hf");
  ASSERT_TRUE(folder.has_value()) << folder.error().message;
  EXPECT_FALSE(folder->empty());
  const auto none = tokenizer_files("no-such-folder");
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("there are no files of a tokenizer"));
}

}  // namespace net_test
}  // namespace fovea::train
