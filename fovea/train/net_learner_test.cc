// A net with a forward pass of its own through `train`: it learns, goes on where it stood, and refuses what does not
// fit.
#include "fovea/train/net_learner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <optional>

#include "fovea/base/file.h"
#include "fovea/train/loop.h"
#include "fovea/train/trained_net.h"

namespace fovea::train {
namespace net_learner_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

class NetRun : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/nets-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    config_ = {{"model", {{"net", "cnn"}, {"size", 16}, {"widths", {16, 32}}, {"classes", 6}}},
               {"data", {{"generator", "scenes"}, {"size", 16}, {"label", "colour"}}},
               {"batch", 16},
               {"steps", 40},
               {"optimizer", {{"name", "adamw"}, {"lr", 0.01}}},
               {"eval", {{"data", {{"generator", "scenes"}, {"size", 16}, {"label", "colour"}}}, {"every", 20}}},
               {"checkpoint_every", 7},
               {"out", folder_ + "/out"}};
  }
  void TearDown() override { fs::remove_all(folder_); }
  Result<TrainResult> run(const TrainOptions& options = {}) const {
    EXPECT_TRUE(write_file_atomic(folder_ + "/config.json", config_.dump()).has_value());
    return train(folder_ + "/config.json", options);
  }
  // A .npy file of float32.
  std::string zeros(const std::string& name, const std::string& shape, size_t n) const {
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
    header.append(63 - (10 + header.size()) % 64, ' ');
    std::string bytes("\x93NUMPY\x01\x00", 8);
    bytes += static_cast<char>(header.size() + 1);
    bytes += '\0';
    EXPECT_TRUE(write_file_atomic(folder_ + "/" + name, bytes + header + "\n" + std::string(n * sizeof(float), '\0'))
                    .has_value());
    return folder_ + "/" + name;
  }
  std::string weights() const { return read_file(folder_ + "/out/model/model.safetensors").value(); }
  std::string folder_;
  Json config_;
};

TEST_F(NetRun, LearnsTheColoursOfScenes) {
  std::vector<double> losses;
  TrainOptions options;
  options.on_step = [&](const StepReport& step) { losses.push_back(step.loss); };
  const auto result = run(options);
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_NEAR(losses[0], std::log(6.0), 0.5);
  ASSERT_TRUE(result->eval_loss.has_value());
  EXPECT_LT(*result->eval_loss, 0.8);
  ASSERT_TRUE(result->eval_accuracy.has_value());
  EXPECT_GT(*result->eval_accuracy, 0.7);  // of 64 samples
  EXPECT_LE(*result->eval_accuracy, 1);
  EXPECT_EQ(*result->eval_accuracy * 64, std::round(*result->eval_accuracy * 64));
  EXPECT_EQ(result->unit, "pictures");
  EXPECT_THAT(read_file(folder_ + "/out/log.jsonl").value(), HasSubstr("\"eval_accuracy\":"));
  EXPECT_THAT(read_file(folder_ + "/out/report.html").value(), HasSubstr("share that is right"));
  const Json config = Json::parse(read_file(result->model + "/config.json").value());
  EXPECT_EQ(config["net"]["net"], "cnn");
  EXPECT_EQ(config["fovea"]["steps"], 40);
}

TEST_F(NetRun, GoesOnWithTheBitsOfAnUnbrokenRun) {
  config_["steps"] = 12;
  config_["accumulate"] = 2;
  ASSERT_TRUE(run().has_value());
  const std::string whole = weights();
  ASSERT_TRUE(run({.restart = true, .steps = 5}).has_value());
  EXPECT_NE(weights(), whole);
  const auto resumed = run({.resume = true});
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ(weights(), whole);
}

// The first sample of a mix is of one part alone.
TEST_F(NetRun, EveryPartOfAMixMustFit) {
  const Json labelled = {{"generator", "scenes"}, {"size", 16}, {"label", "colour"}, {"weight", 1000}};
  config_["data"] = {{"mix", {labelled, labelled}}};
  config_["steps"] = 1;
  EXPECT_TRUE(run().has_value());
  const std::string pictures = zeros("x.npy", "(1, 3, 16, 16)", 3 * 16 * 16);
  config_["data"] = {{"mix", {labelled, {{"images", pictures}}}}};
  auto bad = run({.restart = true});
  ASSERT_FALSE(bad.has_value());
  EXPECT_THAT(bad.error().message, HasSubstr("data: its pictures have no labels"));
  config_ = {{"model", {{"net", "lstm"}, {"vocab_size", 20}, {"d_model", 8}, {"outputs", 2}}},
             {"data", {{"mix", {{{"generator", "match3"}, {"weight", 1e6}}, {{"generator", "uniform"}}}}}},
             {"context", 8},
             {"steps", 1},
             {"out", folder_ + "/lstm"}};
  bad = run();
  ASSERT_FALSE(bad.has_value());
  EXPECT_THAT(bad.error().message, HasSubstr("and the net has 2 outputs"));
}

TEST_F(NetRun, DataThatWantNothingAreRefused) {
  config_["data"] = {{"images", zeros("x.npy", "(1, 3, 16, 16)", 3 * 16 * 16)},
                     {"captions", zeros("c.npy", "(1, 2)", 2)}};
  config_["context"] = 4;
  config_.erase("eval");
  for (const char* net : {"lstm", "llama"}) {
    config_["model"] = {{"net", net}, {"vocab_size", 8}, {"d_model", 8}};
    if (net == std::string("llama")) config_["model"].update({{"n_layers", 1}, {"n_heads", 1}});
    const auto bad = run();
    ASSERT_FALSE(bad.has_value()) << net;
    EXPECT_THAT(bad.error().message, HasSubstr("data: its samples want nothing that could be learned"));
  }
}

TEST_F(NetRun, BeginsFromAFolderAndTrainsWhatGlobsName) {
  config_["steps"] = 2;
  ASSERT_TRUE(run().has_value());
  fs::rename(folder_ + "/out/model", folder_ + "/begin");
  config_["model"]["init"] = folder_ + "/begin";
  config_["optimizer"] = {{"name", "sgd"}, {"lr", 0}};
  ASSERT_TRUE(run({.restart = true}).has_value());
  EXPECT_EQ(weights(), read_file(folder_ + "/begin/model.safetensors").value());
  config_["trainable"] = {"head.*"};
  EXPECT_TRUE(run({.restart = true}).has_value());
  config_["trainable"] = {"tail.*"};
  EXPECT_THAT(run({.restart = true}).error().message, HasSubstr("tail.*"));
  config_.erase("trainable");
  config_["model"]["widths"] = {16, 24};
  EXPECT_THAT(run({.restart = true}).error().message, HasSubstr("stages.1.conv.weight is [32, 16, 3, 3]"));
}

// The pictures' tower of two for a VLM; what else it has is drawn as without.
TEST_F(NetRun, BeginsWithSomeTensorsOfAnotherNet) {
  const Json sizes = {{"size", 16}, {"patch", 4}, {"d_model", 8}, {"n_layers", 1}, {"n_heads", 2}, {"vocab_size", 17}};
  config_ = {{"model", sizes},
             {"data", {{"generator", "scenes"}, {"size", 16}}},
             {"context", 8},
             {"batch", 2},
             {"steps", 1},
             {"optimizer", {{"name", "sgd"}, {"lr", 0.1}}},
             {"out", folder_ + "/towers"}};
  config_["model"]["net"] = "two-tower";
  const auto towers = run();
  ASSERT_TRUE(towers.has_value()) << towers.error().message;
  config_["model"]["net"] = "vlm", config_["out"] = folder_ + "/out", config_["optimizer"]["lr"] = 0;
  const auto values = [](const std::string& folder) {
    std::map<std::string, std::vector<float>> out;
    const auto net = open_net(folder);
    EXPECT_TRUE(net.has_value()) << net.error().message;
    if (!net) return out;
    for (const Param& param : (*net)->params())
      out[param.name] = {param.value.values().begin(), param.value.values().end()};
    return out;
  };
  ASSERT_TRUE(run().has_value());
  const auto drawn = values(folder_ + "/out/model"), from = values(towers->model);
  config_["model"]["init"] = {{"folder", towers->model}, {"tensors", {"vision.*", "!vision.positions"}}};
  const auto begun = run({.restart = true});
  ASSERT_TRUE(begun.has_value()) << begun.error().message;
  int n_from = 0;
  for (const auto& [name, value] : values(begun->model)) {
    const bool taken = name.starts_with("vision.") && name != "vision.positions";
    EXPECT_EQ(value, taken ? from.at(name) : drawn.at(name)) << name;
    n_from += taken;
  }
  EXPECT_GT(n_from, 8);

  const auto error = [&](const Json& init) {
    config_["model"]["init"] = init;
    const auto result = run({.restart = true});
    return result ? "" : result.error().message;
  };
  EXPECT_THAT(error({{"folder", towers->model}, {"tensors", {"vison.*"}}}),
              HasSubstr("model.init.tensors: \"vison.*\" fits no parameter; the nearest is"));
  EXPECT_THAT(error({{"folder", towers->model}, {"tensors", {"projector.*"}}}),
              HasSubstr("it has no projector.fc1.weight, which the net has"));
  EXPECT_THAT(error({{"folder", towers->model}, {"tensors", {"words.weight"}}}), HasSubstr("words.weight is [18, 8]"));
  EXPECT_THAT(error({{"folder", towers->model}}), HasSubstr("model.init.tensors is missing"));
  EXPECT_THAT(error({{"tensors", {"vision.*"}}}), HasSubstr("model.init.folder is missing"));
  EXPECT_THAT(error({{"folder", towers->model}, {"tensors", {"vision.*"}}, {"globs", 1}}),
              HasSubstr("model.init.globs"));
}

TEST_F(NetRun, TwoTowersNeedTwoSamples) {
  config_ = {{"model",
              {{"net", "two-tower"},
               {"size", 16},
               {"patch", 4},
               {"d_model", 8},
               {"n_layers", 1},
               {"n_heads", 2},
               {"vocab_size", 17}}},
             {"data", {{"generator", "scenes"}, {"size", 16}}},
             {"context", 8},
             {"steps", 1},
             {"out", folder_ + "/out"}};
  EXPECT_THAT(run().error().message, HasSubstr("batch is 1; this net tells the samples of a pass apart, and needs 2"));
  config_["batch"] = 2;
  config_["eval"] = {{"data", config_["data"]}, {"every", 1}, {"samples", 1}};
  EXPECT_THAT(run().error().message, HasSubstr("eval has 1 sample, and this net tells 2 or more of a pass apart"));
  std::optional<double> of_two;
  for (const int n : {2, 3}) {  // the third is alone in its pass, and nothing is lost there
    config_["eval"]["samples"] = n;
    const auto result = run({.restart = true});
    ASSERT_TRUE(result.has_value()) << result.error().message;
    ASSERT_TRUE(result->eval_loss.has_value());
    EXPECT_EQ(of_two.value_or(*result->eval_loss), *result->eval_loss);
    of_two = result->eval_loss;
  }
}

TEST_F(NetRun, TheUnetDrawsItsNoiseFromTheSeed) {
  config_ = {{"model", {{"net", "unet"}, {"size", 16}, {"width", 8}, {"n_heads", 2}}},
             {"data", {{"generator", "scenes"}, {"size", 16}}},
             {"batch", 2},
             {"steps", 3},
             {"out", folder_ + "/out"}};
  ASSERT_TRUE(run().has_value());
  const std::string first = weights();
  ASSERT_TRUE(run({.restart = true}).has_value());
  EXPECT_EQ(weights(), first);
  config_["data"]["seed"] = 0, config_["seed"] = 1;  // the same scenes
  ASSERT_TRUE(run({.restart = true}).has_value());
  EXPECT_NE(weights(), first);
}

TEST_F(NetRun, NetsThatReadCaptionsTakeThoseOfScenes) {
  const Json net = {{"size", 16}, {"patch", 4}, {"d_model", 8}, {"n_layers", 1}, {"n_heads", 2}, {"vocab_size", 17}};
  for (const char* name : {"two-tower", "vlm", "unet"}) {
    config_ = {{"model", {{"net", name}, {"size", 16}, {"width", 8}, {"n_heads", 2}, {"vocab_size", 17}}},
               {"data", {{"generator", "scenes"}, {"size", 16}}},
               {"context", 8},
               {"batch", 2},
               {"steps", 2},
               {"out", folder_ + "/" + name}};
    if (std::string_view(name) != "unet") config_["model"] = net, config_["model"]["net"] = name;
    const auto result = run();
    EXPECT_TRUE(result.has_value()) << name << ": " << result.error().message;
  }
}

TEST_F(NetRun, RefusesWhatDoesNotFitInASentence) {
  const std::pair<Json, const char*> wrong[] = {
      {{{"model", {{"net", "cnm"}}}}, "cnn"},
      {{{"data", {{"generator", "uniform"}}}}, "data.symbols has no value that fits this model"},
      {{{"data", {{"generator", "markov"}}}}, "data.states has no value that fits this model"},
      {{{"data", {{"images", "/dev/zero"}, {"labels", "y.npy"}}}}, "is no regular file"},
      {{{"model", {{"net", "gru"}, {"vocab_size", 8}, {"d_model", 4}}},
        {"data", {{"generator", "copy"}, {"length", 3}}}},
       "context is missing"},
      {{{"model", {{"net", "lstm"}, {"vocab_size", 8}, {"d_model", 4}, {"outputs", 2}}},
        {"data", {{"generator", "copy"}, {"length", 3}}},
        {"eval", {{"data", {{"generator", "copy"}, {"length", 3}}}, {"every", 1}}},
        {"context", 16}},
       "and the net has 2 outputs"},
      {{{"data", {{"generator", "scenes"}}}}, "its pictures are 3 x 32 x 32, and the net looks at 3 x 16 x 16"},
      {{{"data", {{"generator", "scenes"}, {"label", "shape-colour"}}}}, "label gives 36 classes, and the net has 6"},
      {{{"losses", {{{"name", "next-token"}}}}}, "losses is for models of text"},
      {{{"attention", "streaming-llm"}}, "attention needs a net that has some"},
      {{{"recompute", true}}, "recompute is for models of text"}};
  const Json good = config_;
  for (const auto& [change, message] : wrong) {
    config_ = good;
    for (const auto& [key, value] : change.items()) config_[key] = value;
    const auto result = run();
    ASSERT_FALSE(result.has_value()) << message;
    EXPECT_THAT(result.error().message, HasSubstr(message));
  }
}

// A file with one picture of one pixel.
std::string one_pixel(const std::string& folder) {
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1), }";
  std::string npy("\x93NUMPY\x01\x00", 8);
  npy += static_cast<char>(header.size() + 1), npy += '\0', npy += header + "\n" + std::string(4, '\0');
  EXPECT_TRUE(write_file_atomic(folder + "/x.npy", npy).has_value());
  return folder + "/x.npy";
}

TEST_F(NetRun, APointerIsNotTrainedOnPointsWithoutAnAnswer) {
  config_["model"] = {{"net", "pointer"}, {"width", 1}, {"d_model", 8}, {"n_layers", 1}, {"n_heads", 2}};
  config_["data"] = {{"images", one_pixel(folder_)}};
  config_.erase("eval");
  const auto result = run();
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr("data: its first sample wants nothing"));
  config_["model"]["width"] = 2;
  EXPECT_THAT(run().error().message, HasSubstr("its pictures are 1 x 1 x 1, and the net looks at 1 x any x 2"));
}

TEST_F(NetRun, ADecoderIsNotTrainedOnPicturesAlone) {
  const std::string images = one_pixel(folder_);
  config_["model"] = {{"net", "llama"}, {"vocab_size", 8}, {"d_model", 8},
                      {"d_ff", 8},      {"n_layers", 1},   {"n_heads", 1}};
  config_["data"] = {{"images", images}};
  config_["context"] = 16;
  config_.erase("eval");
  const auto result = run();
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr("data: its samples have no tokens"));
}

TEST_F(NetRun, LooksAtEveryTargetBeforeTheFirstStep) {
  std::string lines;
  for (int i = 0; i < 66'000; ++i) lines += "{\"tokens\":[1,2],\"targets\":[-100,1]}\n";
  lines += "{\"tokens\":[1,2],\"targets\":[-100,5]}\n";
  ASSERT_TRUE(write_file_atomic(folder_ + "/many.jsonl", lines).has_value());
  config_ = {{"model", {{"net", "lstm"}, {"vocab_size", 8}, {"d_model", 4}, {"outputs", 2}}},
             {"data", {{"jsonl", folder_ + "/many.jsonl"}}},
             {"context", 4},
             {"steps", 1},
             {"out", folder_ + "/out"}};
  const auto result = run();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kData);
  EXPECT_THAT(result.error().message, HasSubstr("sample 66000 wants 5, and the net has 2 outputs"));
}

}  // namespace net_learner_test
}  // namespace fovea::train
