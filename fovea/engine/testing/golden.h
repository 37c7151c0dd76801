// For tests: models of tests/data in sessions, what they answer row by row, and that against a golden.json of
// transformers.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"

namespace fovea::engine {

using Rows = std::vector<std::vector<float>>;  // logits or hidden values of token after token

inline std::string test_data(const std::string& name) { return source_dir() + "/tests/data/" + name; }

inline nlohmann::json read_json_file(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

// The folders in tests/data/NAME, sorted, and one of them in the name of a test.
inline std::vector<std::string> test_folders(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(test_data(name)))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}
inline std::string test_name(std::string folder) {
  std::replace(folder.begin(), folder.end(), '-', '_');
  return folder;
}

inline std::shared_ptr<const Model> load_model(const std::string& path) {
  auto model = Model::load(path);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return model ? *model : nullptr;
}
// Runs `use` on the weights of a folder under a config.json with other fields.
inline void with_fields(const std::string& folder, const nlohmann::json& fields,
                        const std::function<void(std::shared_ptr<const Model>)>& use) {
  namespace fs = std::filesystem;
  const fs::path other = fs::path(::testing::TempDir()) / ("fovea-fields-" + fs::path(folder).filename().string());
  fs::remove_all(other);
  fs::create_directories(other);
  fs::copy_file(folder + "/model.safetensors", other / "model.safetensors");
  nlohmann::json config = read_json_file(folder + "/config.json");
  config.update(fields);
  std::ofstream(other / "config.json") << config;
  if (auto model = load_model(other.string())) use(std::move(model));
  fs::remove_all(other);
}
inline std::unique_ptr<Session> make_session(std::shared_ptr<const Model> model, const SessionOptions& options) {
  auto made = Session::create(std::move(model), options);
  EXPECT_TRUE(made.has_value()) << made.error().message;
  return std::move(made).value();
}

inline Rows rows_of(const Tensor& x) {
  Rows rows;
  for (int64_t i = 0; i < x.dim(0); ++i) rows.emplace_back(x.data() + i * x.dim(1), x.data() + (i + 1) * x.dim(1));
  return rows;
}
// Logits of every token of a prompt.
inline Rows prefill(Session& session, SequenceId sequence, std::span<const int32_t> ids) {
  Rows rows;
  PrefillOptions options;
  options.on_logits = [&](int64_t, const Tensor& logits) -> Status {
    for (auto& row : rows_of(logits)) rows.push_back(std::move(row));
    return {};
  };
  const auto done = session.prefill(sequence, ids, options);
  EXPECT_TRUE(done.has_value()) << done.error().message;
  return rows;
}
inline std::vector<float> decode(Session& session, SequenceId sequence, int32_t token) {
  const Session::Step step{sequence, token};
  const auto logits = session.decode({&step, 1});
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  return {logits->values().begin(), logits->values().end()};
}

// Rows number at[i] against want[i], within the 1e-4 of float32 sums in another order.
inline void expect_golden_rows(const Rows& found, const nlohmann::json& at, const nlohmann::json& want) {
  ASSERT_EQ(at.size(), want.size());
  ASSERT_FALSE(at.empty());
  for (size_t i = 0; i < at.size(); ++i) {
    const auto row = want[i].get<std::vector<double>>();
    const std::vector<float>& mine = found.at(at[i].get<size_t>());
    ASSERT_EQ(row.size(), mine.size());
    double worst = 0;
    for (size_t c = 0; c < row.size(); ++c) worst = std::max(worst, std::abs(mine[c] - row[c]));
    EXPECT_LT(worst, 1e-4) << "row " << at[i];
  }
}

}  // namespace fovea::engine
