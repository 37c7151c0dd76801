// The tensors of a model in the other kind of file: each with the parameters of the family's table that it holds there.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "fovea/formats/source.h"
#include "fovea/models/family.h"

namespace fovea::engine {

enum class Form { kGguf, kFolder };

struct Piece {
  std::string name;
  std::vector<int64_t> dims;  // dims[0] varies fastest
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<tensor::Parameter> parameters = {};
  std::vector<float> made = {};                 // in place of parameters: angles that one form has as a tensor
  const formats::TensorInfo* copied = nullptr;  // or as it lies: a method's own weights
  uint64_t bytes() const;
};

class Pieces {
 public:
  // `architecture`: of the file to be written, which says how it pairs the rows of q and k. The source and the family's
  // table must outlive it. kUnsupported, kData: what find_weight says of a tensor.
  static Result<Pieces> plan(const formats::ModelSource& source, models::Family& family, Form form,
                             const std::string& architecture);

  std::vector<Piece> list;
  // The bytes of a piece; where they lie in the source so, a view of it.
  Result<std::span<const std::byte>> bytes_of(const Piece& piece, std::vector<std::byte>& made) const;

 private:
  Pieces(const formats::ModelSource& source, const models::Config& config, Form form)
      : source_(&source), config_(&config), form_(form) {}
  const std::string& name_of(const tensor::Parameter& p) const { return form_ == Form::kGguf ? p.name : p.hf_name; }
  const tensor::Stored& stored(const tensor::Parameter& p) const { return form_ == Form::kGguf ? p.gguf : p.hf; }
  kernels::DType type_in_source(const tensor::Parameter& p, const formats::TensorInfo& found) const;
  Status choose_type(Piece& piece) const;
  Result<std::vector<std::byte>> values_of(const tensor::Parameter& p, kernels::DType to) const;

  const formats::ModelSource* source_;
  const models::Config* config_;
  Form form_;
  tensor::RopePairing here_ = {}, there_ = {};
};

}  // namespace fovea::engine
