// `fovea train`: a run, one that was broken off, one whose config is wrong.
#include <chrono>
#include <random>
#include <thread>

#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_train_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

class CliTrain : public Cli {
 protected:
  // Steps of milliseconds.
  Json config(const std::string& out = "run") const {
    return {{"model",
             {{"net", "llama"}, {"d_model", 16}, {"d_ff", 24}, {"n_layers", 2}, {"n_heads", 2}, {"vocab_size", 24}}},
            {"data", {{"generator", "induction"}, {"length", 6}}},
            {"context", 20},
            {"batch", 3},
            {"accumulate", 2},
            {"steps", 12},
            {"optimizer", {{"name", "adamw"}, {"lr", 0.01}}},
            {"schedule", {{"name", "cosine"}, {"warmup", 3}}},
            {"clip", 1.0},
            {"ema", 0.9},
            {"eval", {{"data", {{"generator", "induction"}, {"length", 6}}}, {"every", 5}, {"samples", 4}}},
            {"checkpoint_every", 4},
            {"out", path(out)}};
  }
  std::string write(const Json& json, const std::string& name = "c.json") const { return file(name, json.dump(1)); }
  std::vector<Json> log(const std::string& out = "run") const {
    std::vector<Json> lines;
    const std::string text = read_file(path(out + "/log.jsonl")).value();
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      Json line = Json::parse(text.substr(at, end - at));
      line.erase("tokens_per_second");
      lines.push_back(std::move(line));
      at = end + 1;
    }
    return lines;
  }
  std::string model(const std::string& out = "run") const {
    return read_file(path(out + "/model/model.safetensors")).value();
  }
  void expect_same_run(const std::string& a, const std::string& b) const {
    EXPECT_EQ(log(a), log(b));
    EXPECT_TRUE(model(a) == model(b));
  }
  // Until the log has so many lines.
  void wait_for_lines(size_t n, const std::string& out) const {
    for (int i = 0; i < 3000; ++i) {
      std::error_code ignored;
      if (fs::exists(path(out + "/log.jsonl"), ignored)) {
        const auto text = read_file(path(out + "/log.jsonl"));
        if (text && static_cast<size_t>(std::count(text->begin(), text->end(), '\n')) >= n) return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ADD_FAILURE() << "no " << n << " lines";
  }
};

TEST_F(CliTrain, LeavesALogACheckpointAReportAndAModel) {
  const auto answer = json({"train", write(config()), "--json", "-q"});
  EXPECT_EQ(answer["out"], path("run"));
  EXPECT_EQ(answer["step"], 12);
  EXPECT_TRUE(answer["eval_loss"].is_number());
  EXPECT_GT(answer["tokens_per_second"].get<double>(), 0);
  const auto lines = log();
  ASSERT_EQ(lines.size(), 12u);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i]["step"], i);
    for (const char* key : {"loss", "grad_norm", "lr"}) EXPECT_TRUE(lines[i][key].is_number()) << key;
    EXPECT_EQ(lines[i].contains("eval_loss"), i == 4 || i == 9 || i == 11) << i;
  }
  EXPECT_DOUBLE_EQ(lines[0]["lr"].get<double>(), 0.01 / 3);
  EXPECT_EQ(lines.back()["loss"].get<double>(), answer["loss"].get<double>());
  EXPECT_LT(lines.back()["loss"].get<double>(), lines.front()["loss"].get<double>());
  EXPECT_THAT(read_file(path("run/report.html")).value(), HasSubstr("<svg"));
  const auto shown = json({"show", path("run/model"), "--json"});
  EXPECT_EQ(shown["d_model"], 16);
  EXPECT_EQ(shown["training"]["seed"], 0);
  EXPECT_EQ(shown["training"]["config"]["steps"], 12);
  EXPECT_THAT(shown["training"]["program"].get<std::string>(), StartsWith("fovea "));
  const std::string ids = file("ids.json", "[1, 2, 3, 4, 5, 6, 1, 2, 3]");
  EXPECT_EQ(run({"logits", "-m", path("run/model"), "--ids", ids, "-o", path("l.npy")}).code, 0);
}

TEST_F(CliTrain, AResumedRunIsTheUnbrokenOneAtAnyNumberOfThreads) {
  for (const char* optimizer : {"adamw", "adam", "sgd", "muon"}) {
    SCOPED_TRACE(optimizer);
    Json whole = config(std::string("whole-") + optimizer), parts = config(std::string("parts-") + optimizer);
    whole["optimizer"] = parts["optimizer"] = {{"name", optimizer}};
    whole["data"] = parts["data"] = {{"generator", "copy"}, {"length", 8}};
    if (std::string_view(optimizer) == "sgd") whole["optimizer"]["momentum"] = parts["optimizer"]["momentum"] = 0.9;
    ASSERT_EQ(run({"train", write(whole), "-q", "-t", "1"}).code, 0);
    const std::string broken = write(parts, "p.json");
    ASSERT_EQ(run({"train", broken, "-q", "-t", "2", "--steps", "5"}).code, 0);
    ASSERT_EQ(run({"train", broken, "-q", "-t", "3", "--steps", "6", "--resume"}).code, 0);
    const Ended end = run({"train", broken, "-t", "2", "--resume"});
    ASSERT_EQ(end.code, 0) << end.err;
    EXPECT_THAT(end.err, HasSubstr("goes on from step 6 of 12"));
    // An evaluation stands at the end of every part.
    auto a = log(std::string("whole-") + optimizer), b = log(std::string("parts-") + optimizer);
    for (auto* lines : {&a, &b}) {
      for (Json& line : *lines) line.erase("eval_loss");
    }
    EXPECT_EQ(a, b);
    EXPECT_TRUE(model(std::string("whole-") + optimizer) == model(std::string("parts-") + optimizer));
  }
}

TEST_F(CliTrain, ASignalToTheProcessAndItsGroupIsOne) {
  Json slow = config("twice");
  slow["steps"] = 1000, slow["checkpoint_every"] = 1000;
  slow["batch"] = 64;  // a step takes longer than what lies between the signals
  slow.erase("eval");
  const std::string name = write(slow, "twice.json");
  const pid_t child = start({"train", name});
  wait_for_lines(1, "twice");
  kill(child, SIGTERM);
  usleep(3000);
  kill(child, SIGTERM);
  const Ended ended = finish(child);
  EXPECT_EQ(ended.code, 143) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("--resume"));
}

TEST_F(CliTrain, ASignalSavesTheStepAndSaysHowToGoOn) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string out = "signal-" + std::to_string(signal);
    Json slow = config(out);
    slow["steps"] = 100'000, slow["checkpoint_every"] = 100'000;
    slow.erase("eval");
    const std::string name = write(slow, out + ".json");
    const pid_t child = start({"train", name});
    wait_for_lines(3, out);
    kill(child, signal);
    const Ended ended = finish(child);
    EXPECT_EQ(ended.code, 128 + signal) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("fovea train " + name + " --resume"));
    const size_t done = log(out).size();
    EXPECT_GE(done, 3u);
    const Ended more = run({"train", name, "--resume", "--steps", std::to_string(done + 2)});
    EXPECT_EQ(more.code, 0) << more.err;
    EXPECT_EQ(log(out).size(), done + 2);
  }
}

// Each time from where the last checkpoint stands, until a run is left alone.
TEST_F(CliTrain, KilledAtAnyMomentItGoesOnFromAWholeCheckpoint) {
  Json c = config("killed");
  c["checkpoint_every"] = 1;
  c["steps"] = 40;
  Json alone = c;
  alone["out"] = path("alone");
  ASSERT_EQ(run({"train", write(alone), "-q"}).code, 0);
  const std::string name = write(c, "killed.json");
  std::mt19937 random(17);
  int n_killed = 0;
  for (int i = 0; i < 30; ++i) {
    const pid_t child = start({"train", name, "--resume", "-q"});
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    n_killed += kill(child, SIGKILL) == 0;
    const Ended ended = finish(child);
    EXPECT_TRUE(ended.code == 128 + SIGKILL || ended.code == 0) << ended.err;
  }
  EXPECT_GT(n_killed, 0);
  const Ended end = run({"train", name, "--resume", "-q"});
  ASSERT_EQ(end.code, 0) << end.err;
  expect_same_run("killed", "alone");
  size_t n_files = 0;
  for (const auto& entry : fs::directory_iterator(path("killed/checkpoint"))) n_files += entry.is_regular_file();
  EXPECT_EQ(n_files, 2u);
}

TEST_F(CliTrain, AFullDiskIsOneSentenceAndTheLastCheckpointIsWhole) {
  const std::string name = write(config());
  ASSERT_EQ(run({"train", name, "-q", "--steps", "4"}).code, 0);
  // A file may have 8 KiB: the checkpoint has more.
  const Ended full = shell("trap '' XFSZ; ulimit -f 8; exec $FOVEA train " + name + " -q --resume");
  EXPECT_EQ(full.code, 74) << full.err;
  EXPECT_EQ(std::count(full.err.begin(), full.err.end(), '\n'), 1) << full.err;
  EXPECT_THAT(full.err, HasSubstr("checkpoint/step-8"));
  const Ended more = run({"train", name, "--resume"});
  EXPECT_EQ(more.code, 0) << more.err;
  EXPECT_THAT(more.err, HasSubstr("goes on from step 4"));
}

TEST_F(CliTrain, WhatIsNoNumberStopsWithTheStepAndTheFirstBadTensor) {
  Json c = config();
  c["optimizer"] = {{"name", "sgd"}, {"lr", 1e6}};
  c["schedule"] = {{"name", "constant"}};
  c["clip"] = 0, c["max_loss"] = 1e30, c["checkpoint_every"] = 1, c["steps"] = 200;
  c.erase("eval");
  const std::string sentence = fails(1, {"train", write(c), "-q"});
  EXPECT_THAT(sentence, HasSubstr("step "));
  EXPECT_THAT(sentence, HasSubstr("the first bad tensor is "));
  EXPECT_THAT(sentence, HasSubstr("is whole"));
  c["max_loss"] = 4, c["optimizer"]["lr"] = 30;
  c["out"] = path("large");
  EXPECT_THAT(fails(1, {"train", write(c), "-q"}), HasSubstr("over 4 (max_loss)"));
}

TEST_F(CliTrain, ACheckpointIsNeverLostByMistake) {
  Json c = config();
  const std::string name = write(c);
  ASSERT_EQ(run({"train", name, "-q", "--steps", "4"}).code, 0);
  EXPECT_THAT(fails(2, {"train", name, "-q"}), HasSubstr("there is a checkpoint of step 4 here: --resume"));
  Json other = c;
  other["optimizer"]["lr"] = 0.02;
  EXPECT_THAT(fails(2, {"train", write(other, "o.json"), "-q", "--resume"}),
              HasSubstr("of another config: optimizer.lr is 0.02, and was 0.01"));
  other = c;
  other["model"]["d_ff"] = 32;
  EXPECT_THAT(fails(2, {"train", write(other, "o.json"), "-q", "--resume"}),
              HasSubstr("of another config: model.d_ff is 32, and was 24"));
  const std::string state = path("run/checkpoint/state.json");
  const std::string whole = read_file(state).value();
  (void)file("run/checkpoint/state.json", whole.substr(0, whole.size() / 2));
  EXPECT_THAT(fails(65, {"train", name, "-q", "--resume"}), AllOf(HasSubstr("state.json"), HasSubstr("--restart")));
  (void)file("run/checkpoint/state.json", whole);
  const std::string tensors = path("run/checkpoint/step-4.safetensors");
  fs::resize_file(tensors, fs::file_size(tensors) - 4);
  EXPECT_THAT(fails(65, {"train", name, "-q", "--resume"}), HasSubstr("the checkpoint was cut or changed"));
  (void)file("run/checkpoint/state.json", "{");
  EXPECT_EQ(run({"train", name, "-q", "--restart"}).code, 0);  // what is damaged is not in its way
  EXPECT_EQ(log().size(), 12u);
}

TEST_F(CliTrain, DataOrAModelThatChangedUnderneathAreFoundOut) {
  Json c = config();
  c["data"] = {{"jsonl", file("d.jsonl", "{\"tokens\": [1, 2, 3]}\n")}};
  const std::string name = write(c);
  ASSERT_EQ(run({"train", name, "-q", "--steps", "4"}).code, 0);
  (void)file("d.jsonl", "{\"tokens\": [1, 2, 4]}\n");
  EXPECT_THAT(fails(65, {"train", name, "-q", "--resume"}), HasSubstr("the data are not those"));
  // A model of other sizes under the old name.
  fs::copy(source_dir() + "/tests/data/families/llama", path("m"));
  Json tuned = config("tuned");
  tuned["model"] = path("m");
  tuned["data"] = {{"jsonl", path("d.jsonl")}};
  const std::string tune = write(tuned, "t.json");
  const Ended first = run({"train", tune, "-q", "--steps", "1"});
  ASSERT_EQ(first.code, 0) << first.err;
  fs::remove_all(path("m"));
  Json small = config("small");
  ASSERT_EQ(run({"train", write(small, "s.json"), "-q", "--steps", "1"}).code, 0);
  fs::rename(path("small/model"), path("m"));
  EXPECT_THAT(fails(65, {"train", tune, "-q", "--resume"}), HasSubstr("in the checkpoint and ["));
}

TEST_F(CliTrain, EarlyStopEndsTheRun) {
  Json c = config();
  c["steps"] = 1000;
  c["optimizer"]["lr"] = 0;
  c["eval"]["every"] = 2;
  c["early_stop"] = {{"patience", 3}};
  const Ended ended = run({"train", write(c)});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("stops early: 3 evaluations"));
  EXPECT_EQ(log().size(), 8u);
}

TEST_F(CliTrain, RecomputedBlocksAndSmallerBatchesGiveTheSameRun) {
  Json c = config("plain");
  c["batch"] = 6, c["accumulate"] = 1;
  ASSERT_EQ(run({"train", write(c), "-q"}).code, 0);
  Json again = c;
  again["recompute"] = true, again["out"] = path("again");
  ASSERT_EQ(run({"train", write(again), "-q"}).code, 0);
  expect_same_run("plain", "again");
  ASSERT_EQ(run({"train", write(config("parts")), "-q"}).code, 0);  // 2 times 3
  const auto a = log("plain"), b = log("parts");
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i]["loss"].get<double>(), b[i]["loss"].get<double>(), 1e-4) << i;
}

TEST_F(CliTrain, ALoraLearnsAndOtherCommandsTakeIt) {
  Json c = config();
  c["model"] = source_dir() + "/tests/data/tiny-llama.gguf";
  c["trainable"] = {{"lora", {{"rank", 4}, {"alpha", 8}, {"targets", {"q_proj", "v_proj", "down_proj"}}}}};
  c["data"] = {{"jsonl", file("d.jsonl", "{\"prompt\": \"Who?\", \"answer\": \" Ada.\"}\n")}};
  c["steps"] = 60;
  c["optimizer"]["lr"] = 0.03;
  c.erase("eval");
  const Ended ended = run({"train", write(c), "-q"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto lines = log();
  EXPECT_LT(lines.back()["loss"].get<double>(), 0.3 * lines.front()["loss"].get<double>());
  const auto answer = json({"run", "-m", kTiny, "--raw", "Who?", "-n", "8", "--temp", "0", "--lora", path("run/model"),
                            "--json", "--numerics", "exact"});
  EXPECT_THAT(answer["text"].get<std::string>(), HasSubstr("Ada."));
}

// The same with rows before the prompt, and with masks.
TEST_F(CliTrain, GatesOfHeadsAreFitted) {
  Json fit = config("gates");
  fit["model"] = kTiny;
  fit["attention"] = "head-gate";
  fit["trainable"] = {"head-gate.*"};
  fit["optimizer"]["lr"] = 0.1;
  json({"train", write(fit), "--json", "-q"});
  EXPECT_LT(log("gates").back()["loss"].get<double>(), log("gates").front()["loss"].get<double>());
  const std::string model = path("gates/model.gguf");
  const auto logits = [&](const std::string& of, const std::string& attention) {
    const Ended ended = run({"logits", "-m", of, "--ids", file("ids.json", "[3, 4, 5, 6]"), "--attention", attention,
                             "--numerics", "exact", "-o", path("l.npy")});
    EXPECT_EQ(ended.code, 0) << ended.err;
    return std::pair(read_file(path("l.npy")).value(), ended.err);
  };
  const std::string before = logits(kTiny, "dense").first;
  const auto [gated, gated_err] = logits(model, "head-gate");
  const std::string warned = logits(model, "dense").second;
  EXPECT_NE(gated, before);
  EXPECT_THAT(gated_err, ::testing::Not(HasSubstr("--attention")));
  EXPECT_THAT(warned, HasSubstr("has weights of head-gate, which are not used without --attention head-gate"));
}

// Of a quantised file, whose other weights stay as they lie; the file itself finds them in its profile.
TEST_F(CliTrain, GatesOfDuoAttentionAreFittedAndGoIntoTheProfile) {
  Json fit = config("duo");
  fit["model"] = kTiny;
  fit["attention"] = "duo-attention:mix=true:sink=1:recent=4";
  fit["trainable"] = {"duo-attention.gate"};
  fit["losses"] = {{{"name", "distill-final"}, {"teacher", kTiny}},
                   {{"name", "l1"}, {"parameters", {"duo-attention.gate"}}, {"mean", true}, {"weight", 0.05}}};
  fit["optimizer"] = {{"name", "adamw"}, {"lr", 0.3}, {"weight_decay", 0}};
  fit["schedule"] = {{"name", "trapezoid"}};
  json({"train", write(fit), "--json", "-q"});
  EXPECT_NEAR(log("duo").front()["loss"].get<double>(), 0.05, 1e-6) << "gates of 1 change nothing";
  const auto logits = [&](const std::string& of, const std::string& attention) {
    const Ended ended = run({"logits", "-m", of, "--ids", file("ids.json", "[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]"),
                             "--attention", attention, "--numerics", "exact", "-o", path("l.npy")});
    EXPECT_EQ(ended.code, 0) << ended.err;
    return read_file(path("l.npy")).value();
  };
  const std::string trained = path("duo/model.gguf"), few = "duo-attention:sink=1:recent=4";
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "-n", "2", "--attention", few, "Hello"}), HasSubstr("no gates"));
  Json profile = {{"version", 1}, {"model_sha256", sha256_of_file(kTiny).value()}, {"heads", Json::array()}};
  for (int i = 0; i < 8; ++i) profile["heads"].push_back({{"layer", i / 4}, {"head", i % 4}, {"retrieval", 0.1 * i}});
  fs::create_directories(path("store/profiles"));
  const std::string kept = "store/profiles/" + profile["model_sha256"].get<std::string>() + ".json";
  file(kept, profile.dump());
  EXPECT_THAT(fails(65, {"profile", "-q", "-m", kTiny, "--gates", kTiny}), HasSubstr("duo-attention.gate"));
  const Json with_gates = json({"profile", "-m", kTiny, "--gates", trained, "--json", "-q"});
  EXPECT_EQ(with_gates["kv_heads"].size(), 4u);
  for (const Json& head : with_gates["kv_heads"]) {
    EXPECT_GE(head["duo_gate"].get<double>(), 0);
    EXPECT_LT(head["duo_gate"].get<double>(), 1);
  }
  EXPECT_NEAR(with_gates["heads"][3]["retrieval"].get<double>(), 0.3, 1e-9);
  EXPECT_EQ(logits(kTiny, few), logits(trained, few));
  EXPECT_NE(logits(kTiny, few), logits(kTiny, "dense"));
}

TEST_F(CliTrain, WhatStandsBesideAModelIsLearntAndTaken) {
  Json c = config();
  c["model"] = kTiny;
  c["data"] = {{"jsonl", file("d.jsonl", "{\"prompt\": \"Who?\", \"answer\": \" Ada.\"}\n")}};
  c["optimizer"] = {{"name", "adam"}, {"lr", 0.1}};
  c["steps"] = 60;
  c.erase("eval");
  const std::vector<std::string> ask = {"run", "-m", kTiny, "--raw", "Who?", "-n", "8", "--temp", "0", "--json"};
  const auto with = [&](const char* flag, const std::string& path) {
    std::vector<std::string> args = ask;
    args.insert(args.end(), {flag, path});
    return args;
  };
  const std::pair<const char*, Json> kinds[] = {{"soft_prompt", {{"text", "a cat"}}},
                                                {"masks", {{"targets", "blk.*"}, {"init", 0.6}}}};
  for (const auto& [kind, settings] : kinds) {
    const std::string name = kind, out = path(name), at = out + "/" + name + ".safetensors";
    const std::string flag = name == "masks" ? "--masks" : "--soft-prompt";
    c["trainable"] = {{name, settings}}, c["out"] = out;
    const Ended ended = run({"train", write(c), "-q"});
    ASSERT_EQ(ended.code, 0) << ended.err;
    const auto lines = log(name);
    EXPECT_LT(lines.back()["loss"].get<double>(), 0.7 * lines.front()["loss"].get<double>()) << name;
    const auto answer = json(with(flag.c_str(), at));
    EXPECT_NE(answer["text"], json(ask)["text"]) << name;
    EXPECT_THAT(fails(66, with(flag.c_str(), path("none"))), HasSubstr("none"));
    EXPECT_EQ(run({"logits", "-m", kTiny, "Who?", "-o", path("l.npy"), flag, at, "-q"}).code, 0);
    const Ended asked =
        run({"ask", "-m", kTiny, "-f", file("a.txt", "Ada wrote.\n"), "Who wrote?", "-n", "2", "--json", flag, at});
    EXPECT_EQ(asked.code, 0) << asked.err;
    const Json shown = json({"show", at, "--json"});
    const auto estimated = [&](const std::vector<std::string>& args) {
      std::vector<std::string> all = args;
      all.push_back("--estimate");
      return json(all)["prompt_tokens"].get<int64_t>();
    };
    const int64_t n_rows = name == "masks" ? 0 : shown["tensors"][0]["shape"][0].get<int64_t>();
    EXPECT_EQ(estimated(with(flag.c_str(), at)), estimated(ask) + n_rows) << shown["tensors"][0].dump();
    EXPECT_EQ(shown["kind"], name == "masks" ? "masks" : "soft prompt");
    EXPECT_EQ(shown["tensors"][0].contains("kept"), name == "masks");
    EXPECT_EQ(shown["training"]["config"]["steps"], 60);
    if (name == "masks") {
      const std::vector<std::string> measure = {"profile", "-m", kTiny, "--lengths", "400", "--depths", "1", "--json"};
      std::vector<std::string> masked = measure;
      masked.insert(masked.end(), {flag, at});
      EXPECT_NE(json(masked)["model_sha256"], json(measure)["model_sha256"]);
    }
    EXPECT_THAT(run({"show", at}).out, AllOf(HasSubstr(kTiny), HasSubstr(flag + " " + at)));
  }
}

TEST_F(CliTrain, ATeacherIsFollowed) {
  ASSERT_EQ(run({"train", write(config("teacher")), "-q"}).code, 0);
  Json c = config();
  c["losses"] = {{{"name", "distill"}, {"teacher", path("teacher/model")}, {"temperature", 2}},
                 {{"name", "distill-hidden"}, {"teacher", path("teacher/model")}, {"layers", {0, 1}}, {"weight", 0.1}},
                 {{"name", "l2"}, {"parameters", "*ffn*"}, {"weight", 1e-4}}};
  c["init_seed"] = 9, c["steps"] = 30;
  const Ended ended = run({"train", write(c), "-q"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_LT(log().back()["loss"].get<double>(), 0.7 * log().front()["loss"].get<double>());
}

TEST_F(CliTrain, BadConfigsGetOneSentenceEach) {
  const auto with = [&](const std::string& key, const Json& value) {
    Json c = config();
    Json* at = &c;
    size_t begin = 0;
    for (size_t dot; (dot = key.find('.', begin)) != key.npos; begin = dot + 1)
      at = &(*at)[key.substr(begin, dot - begin)];
    if (value.is_discarded()) {
      at->erase(key.substr(begin));
    } else {
      (*at)[key.substr(begin)] = value;
    }
    return c;
  };
  const Json none(Json::value_t::discarded);
  (void)file("empty.txt", "");
  fs::create_directory(path("empty"));
  (void)file("empty/tokenizer.json", "");
  (void)file("short.jsonl", "{\"tokens\": [1]}\n");
  (void)file("ids.jsonl", "{\"tokens\": [1, 24]}\n");
  (void)file("half.npy", "\x93NUMPY");
  struct Row {
    std::string key;
    Json value;
    int code;
    std::string says;
  };
  const std::string llama = source_dir() + "/tests/data/tiny-llama.gguf";
  const Row rows[] = {
      {"stepz", 3, 2, "stepz is no setting here; the nearest is steps"},
      {"optimizer.weigth_decay", 0.1, 2, "optimizer.weigth_decay is no setting here; the nearest is weight_decay"},
      {"model.d_modle", 16, 2, "model.d_modle is no setting here; the nearest is d_model"},
      {"data.lenght", 3, 2, "data.lenght is no setting here; the nearest is length"},
      {"eval.evry", 3, 2, "eval.evry is no setting here; the nearest is every"},
      {"schedule.warm", 3, 2, "schedule.warm is no setting here; the nearest is warmup"},
      {"optimizer.lr", "NaN", 2, "optimizer.lr is \"NaN\"; a number"},
      {"optimizer.lr", -1, 2, "optimizer.lr is -1"},
      {"optimizer.betas", {0.9, 1.0}, 2, "optimizer.betas hold a 1"},
      {"optimizer.betas", 0.9, 2, "optimizer.betas is 0.9; a list of 2 numbers"},
      {"optimizer.name", "adamww", 2, "did you mean adamw?"},
      {"optimizer.name", "ADAMW", 2, "did you mean adamw?"},
      {"optimizer.name", "SGD", 2, "did you mean sgd?"},
      {"schedule.name", "cosine_with_warmup", 2, "that is cosine here"},
      {"learning_rate", 0.1, 2, "learning_rate is no setting here; it is optimizer.lr"},
      {"optimizer.learning_rate", 0.1, 2, "optimizer.learning_rate is no setting here; it is optimizer.lr"},
      {"epochs", 3, 2, "epochs is no setting here; it is steps"},
      {"batch_size", 3, 2, "batch_size is no setting here; it is batch"},
      {"warmup_steps", 3, 2, "warmup_steps is no setting here; it is schedule.warmup"},
      {"model.hidden_size", 3, 2, "model.hidden_size is no setting here; it is model.d_model"},
      {"weight_decay", 0.1, 2, "weight_decay is no setting here; it is optimizer.weight_decay"},
      {"model", {{"net", "llama"}, {"hidden_size", 8}}, 2, "model.hidden_size is no setting here; it is model.d_model"},
      {"model.dropout", 0.1, 2, "model.dropout is no setting here: nothing is dropped out here"},
      {"optimizer", "adamw", 2, "optimizer is \"adamw\"; an object is needed, such as {\"name\": \"adamw\"}"},
      {"schedule.name", "cosin", 2, "did you mean cosine?"},
      {"schedule.warmup", -3, 2, "schedule.warmup is -3"},
      {"steps", 0, 2, "steps is 0"},
      {"steps", 1.5, 2, "steps is 1.5; a whole number"},
      {"steps", none, 2, "steps is missing"},
      {"batch", 0, 2, "batch is 0"},
      {"batch", "3", 2, "batch is \"3\"; a whole number"},
      {"accumulate", -1, 2, "accumulate is -1"},
      {"context", none, 2, "context is missing"},
      {"context", 0, 2, "context is 0"},
      {"model.n_ctx", 19, 2, "context is 20; the model has 19 positions"},
      {"clip", "1", 2, "clip is \"1\"; a number"},
      {"ema", 1, 2, "ema is 1"},
      {"order", "random", 2, "order is \"random\"; there are sequential, shuffled"},
      {"recompute", 1, 2, "recompute is 1; true or false"},
      {"out", none, 2, "out is missing"},
      {"out", "", 2, "out is empty"},
      {"out", path("empty.txt"), 2, "is no folder"},
      {"model", none, 2, "model is missing"},
      {"model", path("none"), 66, "none"},
      {"model", path("empty.txt"), 65, "empty.txt"},
      {"model.net", "lama", 2, "did you mean llama?"},
      {"model.n_heads", 3, 2, "model.n_heads does not divide d_model"},
      {"out", "/", 2, "root of the file system"},
      {"model.n_kv_heads", 3, 2, "model.n_kv_heads does not divide n_heads"},
      {"model.vocab_size", none, 2, "model.vocab_size is missing"},
      {"model.tokenizer", path("none"), 66, "no files of a tokenizer"},
      {"model.tokenizer", path("empty"), 65, "tokenizer.json\": the file is empty"},
      {"data", none, 2, "data is missing"},
      {"data", Json::object(), 2, "data are one of"},
      {"data", {{"genrator", "copy"}}, 2, "the nearest is generator"},
      {"data", {{"generator", "copi"}}, 2, "did you mean copy?"},
      {"data", {{"tokens", path("none.npy")}}, 66, "none.npy"},
      {"data", {{"tokens", path("half.npy")}}, 65, "half.npy"},
      {"data", {{"tokens", path("empty.txt")}}, 65, "it is no NumPy file"},
      {"data", {{"jsonl", path("empty.txt")}}, 2, "data.jsonl has no line with something to learn"},
      {"data", {{"jsonl", path("short.jsonl")}}, 65, "line 1: two tokens or more are needed"},
      {"data", {{"jsonl", path("ids.jsonl")}}, 65, "tokens[1] is 24; ids are 0 to 23"},
      {"data", {{"text", path("empty.txt")}}, 2, "needs a tokenizer"},
      {"eval.data", none, 2, "eval.data is missing"},
      {"eval.every", 0, 2, "eval.every is 0"},
      {"early_stop", {{"patience", 0}}, 2, "early_stop.patience is 0"},
      {"trainable", "blk.7.*", 2, "trainable: \"blk.7.*\" fits no parameter"},
      {"trainable", {"*", "!*"}, 2, "no parameter is left to train"},
      {"trainable", 3, 2, "trainable is 3"},
      {"trainable", {{"lora", {{"targets", {"qproj"}}}}}, 2, "did you mean q_proj?"},
      {"trainable", {{"lora", {{"rank", 0}}}}, 2, "trainable.lora.rank is 0"},
      {"trainable", {{"laro", 1}}, 2, "trainable.lora is missing"},
      {"losses", Json::array(), 2, "losses is empty"},
      {"losses", {{{"name", "next-tokn"}}}, 2, "did you mean next-token?"},
      {"losses", {{{"name", "distill"}}}, 2, "losses[0].teacher is missing"},
      {"losses", {{{"name", "distill"}, {"teacher", llama}}}, 2, "and the model one of 24"},
      {"attention", "streaming_lm", 2, "streaming"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.key + ": " + (row.value.is_discarded() ? "none" : row.value.dump()));
    EXPECT_THAT(fails(row.code, {"train", write(with(row.key, row.value)), "-q"}), HasSubstr(row.says));
    EXPECT_FALSE(fs::exists(path("run/checkpoint")));
  }
  EXPECT_THAT(fails(65, {"train", file("c.json", "{\"steps\": NaN}"), "-q"}), HasSubstr("not JSON"));
  EXPECT_THAT(fails(65, {"train", file("c.json", "{\"steps\": 1, \"steps\": 2}"), "-q"}), HasSubstr("steps"));
  EXPECT_THAT(fails(2, {"train", file("c.json", "[]"), "-q"}), HasSubstr("an object of settings is needed"));
  EXPECT_THAT(fails(66, {"train", path("none.json"), "-q"}), HasSubstr("none.json"));
  // Of a model with a tokenizer.
  Json tuned = config();
  tuned["model"] = llama;
  EXPECT_THAT(fails(65, {"train", write(tuned), "-q"}),
              HasSubstr("token_embd.weight is Q8_0, and what is trained must be float"));
  tuned["model"] = source_dir() + "/tests/data/tiny-llama-hf";
  tuned["data"] = {{"text", path("empty.txt")}};
  EXPECT_THAT(fails(2, {"train", write(tuned), "-q"}), HasSubstr("data.text has "));
  tuned["data"] = {{"text", file("a.txt", "a")}};
  EXPECT_THAT(fails(2, {"train", write(tuned), "-q"}), HasSubstr("and a context of 20 needs 22 or more"));
}

TEST_F(CliTrain, DataShowsSamplesThatTrainingReads) {
  const auto shown =
      json({"data", "induction", "--show", "3", "--seed", "5", "--json", "-c", "20", "--vocab-size", "24"});
  EXPECT_EQ(shown["name"], "induction");
  ASSERT_EQ(shown["samples"].size(), 3u);
  ASSERT_EQ(
      run({"data", "induction", "--show", "3", "-s", "5", "-c", "20", "--vocab-size", "24", "-o", path("d.jsonl")})
          .code,
      0);
  const std::string lines = read_file(path("d.jsonl")).value();
  EXPECT_EQ(nlohmann::json::parse(lines.substr(0, lines.find('\n')))["tokens"], shown["samples"][0]["tokens"]);
  Json c = config();
  c["data"] = {{"jsonl", path("d.jsonl")}};
  c["steps"] = 1;
  EXPECT_EQ(run({"train", write(c), "-q"}).code, 0);
  // Of a config those that its run reads first, as its model's tokenizer gives them.
  c["model"]["tokenizer"] = "bytes";
  c["model"].erase("vocab_size");
  c["order"] = "shuffled";
  c["data"] = {{"mix", {{{"text", file("t.txt", "abcabcabcabcabcabcabcabcabcabc")}}, {{"generator", "induction"}}}}};
  const auto mixed = json({"data", write(c), "--show", "20", "--json"})["samples"];
  ASSERT_EQ(mixed.size(), 20u);
  const auto n_texts =
      std::count_if(mixed.begin(), mixed.end(), [](const auto& one) { return one["tokens"][0] == 97; });
  EXPECT_GT(n_texts, 0);
  EXPECT_LT(n_texts, 20);
  EXPECT_THAT(fails(2, {"data", write(c), "--seed", "5"}), HasSubstr("--seed is for generators"));
  EXPECT_THAT(fails(66, {"data", path("none.json")}), HasSubstr("none.json"));
  EXPECT_THAT(fails(2, {"data", "inductoin"}), HasSubstr("did you mean induction?"));
  EXPECT_THAT(fails(2, {"data", "copy", "--set", "lenght=3"}), HasSubstr("the nearest is length"));
}

TEST_F(CliTrain, DataOfAConfigAreShownForPeople) {
  Json c = config();
  c["model"] = kTiny;
  c["data"] = {{"jsonl", file("d.jsonl", "{\"prompt\": \"Who?\", \"answer\": \" Ada.\"}\n")}};
  c["trainable"] = {{"lora", Json::object()}};
  c.erase("eval");
  const std::string text = run({"data", write(c), "--show", "1"}).out;
  EXPECT_THAT(text, HasSubstr("Who? Ada."));
  EXPECT_THAT(text, ::testing::ContainsRegex("learns +Ada"));
  // A picture, which has no tokens, in shades.
  const Json net = {{"model", {{"net", "unet"}, {"size", 16}, {"width", 8}}},
                    {"data", {{"generator", "scenes"}, {"size", 16}}},
                    {"steps", 1},
                    {"out", path("run")}};
  EXPECT_THAT(run({"data", write(net, "net.json"), "--show", "1"}).out, HasSubstr("label "));
  EXPECT_THAT(run({"data"}).out, HasSubstr("induction\n"));
  EXPECT_THAT(json({"data", "--json"})["generators"].dump(), HasSubstr("\"scenes\""));
}

TEST_F(CliTrain, ModelsAreKeptOnTheWayAndTheirHeadsAreMeasured) {
  Json c = config();
  c["model"]["tokenizer"] = "bytes";
  c["model"].erase("vocab_size");
  c["keep_every"] = 4, c["eval"]["every"] = 4;
  ASSERT_EQ(run({"train", write(c), "-q", "--steps", "7"}).code, 0);
  EXPECT_TRUE(fs::exists(path("run/kept/4/model")));
  EXPECT_FALSE(fs::exists(path("run/kept/8")));
  ASSERT_EQ(run({"train", write(c), "-q", "--resume"}).code, 0);
  EXPECT_TRUE(read_file(path("run/kept/12/model/model.safetensors")).value() == model());
  c["out"] = path("whole");
  ASSERT_EQ(run({"train", write(c, "whole.json"), "-q"}).code, 0);
  for (const char* step : {"0", "4", "8"}) {
    const std::string at = std::string("/kept/") + step + "/model/model.safetensors";
    EXPECT_TRUE(read_file(path("run" + at)).value() == read_file(path("whole" + at)).value()) << step;
  }
  const std::string text = file("text.txt", std::string(600, 'a'));
  const auto heads = json({"profile", "--run", path("run"), "--file", text, "-o", path("heads.html"), "--json", "-q"});
  EXPECT_EQ(heads["run"], path("run"));
  ASSERT_EQ(heads["steps"].size(), 4u);
  const auto lines = log();
  for (size_t i = 0; i < 4; ++i) {
    const auto& at = heads["steps"][i];
    EXPECT_EQ(at["step"], i * 4);
    EXPECT_EQ(at["eval_loss"].dump(), i == 0 ? "null" : lines[i * 4 - 1]["eval_loss"].dump());
    ASSERT_EQ(at["induction"].size(), 2u) << "layers";
    ASSERT_EQ(at["induction"][0].size(), 2u) << "heads";
  }
  EXPECT_NE(heads["steps"][0]["induction"], heads["steps"][3]["induction"]);
  EXPECT_THAT(read_file(path("heads.html")).value(), HasSubstr("induction: the best head of each layer"));
  EXPECT_THAT(fails(66, {"profile", "--run", path("none")}), HasSubstr("no models were kept"));
  EXPECT_THAT(fails(2, {"profile", "-q"}), HasSubstr("one of -m MODEL and --run RUN is needed"));
  // Another run in the same folder leaves none of the first.
  c["out"] = path("run"), c["keep_every"] = 5;
  ASSERT_EQ(run({"train", write(c), "-q", "--restart", "--steps", "5"}).code, 0);
  EXPECT_FALSE(fs::exists(path("run/kept/4")));
}

// As they stand in examples/, but for where they write and for how long they run.
TEST_F(CliTrain, ExamplesRun) {
  fs::create_directories(root_ / "store");
  fs::create_symlink(kTiny, root_ / "store/smollm2-135m.gguf");
  for (const char* folder : {"docs", "examples"}) fs::create_symlink(source_dir() + "/" + folder, root_ / folder);
  for (const char* name : {"induction", "text", "lora", "chat", "scenes"}) {
    const Ended ended = shell("cd $D && $FOVEA train examples/" + std::string(name) + ".json -q --steps 12 --json");
    ASSERT_EQ(ended.code, 0) << name << ": " << ended.err;
    EXPECT_EQ(Json::parse(ended.out)["step"], 12);
    const auto lines = log("runs/" + std::string(name));
    EXPECT_LT(lines.back()["loss"].get<double>(), lines.front()["loss"].get<double>()) << name;
    if (std::string(name) == "text") {
      EXPECT_EQ(run({"check", path("runs/text/model")}).code, 0);
    }
  }
}

TEST_F(CliTrain, ShowSumsANetUp) {
  Json net = config();
  net["model"] = {{"net", "cnn"}, {"size", 16}, {"classes", 6}, {"widths", {4}}};
  net["data"] = net["eval"]["data"] = {{"generator", "scenes"}, {"size", 16}};
  net["steps"] = 1;
  for (const char* key : {"context", "accumulate", "ema", "eval"}) net.erase(key);
  ASSERT_EQ(run({"train", write(net), "-q"}).code, 0);
  const auto shown = json({"show", path("run/model"), "--json"});
  EXPECT_EQ(shown["kind"], "net");
  EXPECT_EQ(shown["net"], "cnn");
  EXPECT_EQ(shown["settings"]["classes"], 6);
  EXPECT_EQ(shown["training"]["steps"], 1);
  int64_t n = 0;
  for (const auto& tensor : shown["tensors"]) {
    int64_t one = 1;
    for (const auto& dim : tensor["shape"]) one *= dim.get<int64_t>();
    n += one;
  }
  EXPECT_EQ(shown["n_params"], n);
  EXPECT_THAT(run({"show", path("run/model/model.safetensors")}).out, HasSubstr("a net trained here"));
}

TEST_F(CliTrain, AWarningIsSaidOnce) {
  Json bytes = config();
  bytes["model"]["vocab_size"] = 256, bytes["model"]["tokenizer"] = "bytes";
  bytes["data"] = {{"text", file("t.txt", std::string(500, 'a'))}};
  bytes["steps"] = 1;
  bytes.erase("eval");
  const Ended end = run({"train", write(bytes)});
  ASSERT_EQ(end.code, 0) << end.err;
  const std::string warning = "no token ends a text";
  EXPECT_THAT(end.err, HasSubstr(warning));
  EXPECT_EQ(end.err.find(warning), end.err.rfind(warning)) << end.err;
  const Ended asked = run({"ask", "-m", path("run/model"), "--file", path("t.txt"), "why?"});
  EXPECT_EQ(asked.err.find(warning), asked.err.rfind(warning)) << asked.err;
}

}  // namespace cli_train_test
}  // namespace fovea
