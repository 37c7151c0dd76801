// Soft prompts: learned rows that stand before a prompt as if they were what a model makes of its first tokens. Lester
// et al., arXiv:2104.08691. In a file they are the tensor "prompt_embeddings" [n, d_model], as PEFT has them.
#pragma once

#include <atomic>
#include <map>
#include <string>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"
#include "fovea/engine/session.h"
#include "fovea/tensor/tensor.h"

namespace fovea::engine {

// -> [n, d_model]. kData naming the file for rows that are missing, as many as the context or more, of another width
// than the model's, or no numbers; else errors of formats::parse_safetensors.
Result<Tensor> read_soft_prompt(const std::string& path, const attention::ModelShape& model);
Status write_soft_prompt(const std::string& path, const Tensor& rows,
                         const std::map<std::string, std::string>& metadata);

// Puts the rows into block 0 at the next positions of the sequence, which a prompt then goes on from. What ids name
// tokens by (penalties, lookups) does not know them. Errors as Session::step.
Status feed_soft_prompt(Session& session, SequenceId sequence, const Tensor& rows,
                        const std::atomic<bool>* cancel = nullptr);

}  // namespace fovea::engine
