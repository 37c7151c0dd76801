// A net that was trained here (nets/task_net.h), from the folder that its training left: looked at on samples of data.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tensor/tensor.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {

// Whether config.json in the folder says that it holds one.
bool is_net_folder(const std::string& folder);
// Each of the net's parameters from model.safetensors. kData naming what is missing, left over or of another shape.
// With `globs` those that they choose, and the folder may be another net's.
Status load_net_weights(const std::string& folder, const TaskNet& net, const std::vector<std::string>* globs = nullptr);

// kUsage where a sample is nothing that the net can look at. Samples of one kind of data are all alike.
Status check_sample(const TaskNet& net, const Sample& sample, const std::string& what);

struct TrainedNet {
  std::unique_ptr<TaskNet> net;
  std::unique_ptr<Data> data;
};
// `data` as a training config has it, in JSON; empty: that of the net's own training, held-out if there is some.
Result<TrainedNet> open_net(const std::string& folder, const std::string& data);
Result<std::unique_ptr<TaskNet>> open_net(const std::string& folder);  // without data

// What fires of `hooks` (names, globs or other tools' names) over the first n samples, by name: [n, ...] as fired, in
// float32 with exact arithmetic. `attention` is a pipeline as --attention has it. kUsage for names that match nothing
// or never fired, and for samples whose values differ in shape; kLimit for more than max_bytes (0: no limit).
Result<std::vector<std::pair<std::string, tensor::Tensor>>> capture(const TrainedNet& trained,
                                                                    const std::vector<std::string>& hooks, int64_t n,
                                                                    const std::string& attention, uint64_t max_bytes,
                                                                    const std::atomic<bool>* cancel);

}  // namespace fovea::train
