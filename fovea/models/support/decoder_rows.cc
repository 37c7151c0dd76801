// The tables of weights of decoders, and the parameters that come from them.
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/models/support/decoder.h"

namespace fovea::models {

using tensor::Init;
using tensor::Parameter;
using tensor::Stored;
using enum Width;

namespace {

template <typename Row>
std::vector<Row> replaced(std::vector<Row> rows, std::initializer_list<Row> more) {
  for (const Row& row : more) {
    const auto same = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.target == row.target; });
    if (same == rows.end()) {
      rows.push_back(row);
    } else {
      *same = row;
    }
  }
  std::erase_if(rows, [](const Row& row) { return row.name.empty(); });
  return rows;
}

std::array<int64_t, 16> widths_of(const Config& config, const attention::AttentionShape& a) {
  const attention::ModelShape& s = config.shape;
  return {0,                             // kNone
          s.d_model,                     // kModel
          int64_t{a.n_heads} * a.k_dim,  // kQ, and so on
          int64_t{a.n_k_heads} * a.k_dim,
          int64_t{a.n_v_heads} * a.v_dim,
          int64_t{a.n_heads} * a.v_dim,
          s.d_ff,
          a.k_dim,
          s.vocab_size,
          s.n_ctx,
          config.n_token_types,
          a.n_heads,
          config.experts.n,
          config.experts.d_ff,
          config.experts.shared_d_ff,
          config.distances.n_buckets};
}

Stored stored(const Held& held, const Config& config, const attention::AttentionShape& a) {
  const auto widths = widths_of(config, a);
  const int64_t q = widths[static_cast<size_t>(kQ)], k = widths[static_cast<size_t>(kK)],
                v = widths[static_cast<size_t>(kV)], ff = config.shape.d_ff, head = int64_t{a.k_dim};
  Stored how{.transposed = held.transposed, .one_row = held.one_row};
  const auto rows = [&](int64_t begin, int64_t n, int64_t all, int64_t period = 0) {
    how.row_begin = begin, how.row_end = begin + n, how.fused_rows = all, how.row_period = period;
  };
  switch (held.part) {
    case Held::Part::kWhole: break;
    case Held::Part::kQ: rows(0, q, q + k + v); break;
    case Held::Part::kK: rows(q, k, q + k + v); break;
    case Held::Part::kV: rows(q + k, v, q + k + v); break;
    case Held::Part::kHeadQ: rows(0, head, q + k + v, 3 * head); break;
    case Held::Part::kHeadK: rows(head, head, q + k + v, 3 * head); break;
    case Held::Part::kHeadV: rows(2 * head, head, q + k + v, 3 * head); break;
    case Held::Part::kGate: rows(0, ff, 2 * ff); break;
    case Held::Part::kUp: rows(ff, ff, 2 * ff); break;
    case Held::Part::kEvenRows: rows(0, 1, 2 * config.experts.d_ff, 2); break;
    case Held::Part::kOddRows: rows(1, 1, 2 * config.experts.d_ff, 2); break;
  }
  return how;
}

template <typename Row, typename Weights>
Parameter parameter(const Row& row, std::string name, std::string hf_name, Weights& weights, const Config& config,
                    const attention::AttentionShape& a) {
  std::vector<int64_t> shape;
  for (const Width width : row.shape) {
    if (width != kNone) shape.push_back(widths_of(config, a)[static_cast<size_t>(width)]);
  }
  return {.name = std::move(name),
          .hf_name = std::move(hf_name),
          .shape = std::move(shape),
          .target = &(weights.*row.target),
          .init = row.init,
          .optional = row.optional,
          .gguf = stored(row.gguf, config, a),
          .hf = stored(row.hf, config, a)};
}

bool is_mlp(const DecoderRow& row) {
  using B = DecoderBlock;
  for (const auto target : {&B::w_gate, &B::w_up, &B::w_down, &B::b_gate, &B::b_up, &B::b_down}) {
    if (row.target == target) return true;
  }
  return false;
}

std::string bias_name(const std::string& weight) {
  constexpr std::string_view kWeight = "weight";
  FOVEA_CHECK(weight.ends_with(kWeight), "decoder: {} is no name of a weight", weight);
  return weight.substr(0, weight.size() - kWeight.size()) + "bias";
}

}  // namespace

std::vector<DecoderRow> decoder_rows(std::initializer_list<DecoderRow> more) {
  using B = DecoderBlock;
  return replaced<DecoderRow>(
      {{"attn_norm.weight", "input_layernorm.weight", {kModel}, &B::attn_norm, Init::ones()},
       {"attn_q.weight", "self_attn.q_proj.weight", {kModel, kQ}, &B::w_q},
       {"attn_k.weight", "self_attn.k_proj.weight", {kModel, kK}, &B::w_k},
       {"attn_v.weight", "self_attn.v_proj.weight", {kModel, kV}, &B::w_v},
       {"attn_output.weight", "self_attn.o_proj.weight", {kZ, kModel}, &B::w_o},
       {"ffn_norm.weight", "post_attention_layernorm.weight", {kModel}, &B::mlp_norm, Init::ones()},
       {"ffn_gate.weight", "mlp.gate_proj.weight", {kModel, kMlp}, &B::w_gate},
       {"ffn_up.weight", "mlp.up_proj.weight", {kModel, kMlp}, &B::w_up},
       {"ffn_down.weight", "mlp.down_proj.weight", {kMlp, kModel}, &B::w_down}},
      more);
}

std::vector<EndRow> decoder_ends(std::initializer_list<EndRow> more) {
  using E = DecoderEnds;
  return replaced<EndRow>(
      {{"token_embd.weight", "model.embed_tokens.weight", {kModel, kVocab}, &E::embed},
       {"output_norm.weight", "model.norm.weight", {kModel}, &E::final_norm, Init::ones()},
       {"output.weight", "lm_head.weight", {kModel, kVocab}, &E::lm_head, Init::normal(0.02f), /*optional=*/true}},
      more);
}

std::vector<DecoderRow> with_biases(std::vector<DecoderRow> rows, std::initializer_list<BiasOf> biases, bool optional) {
  for (const BiasOf& pair : biases) {
    const auto of =
        std::find_if(rows.begin(), rows.end(), [&](const DecoderRow& row) { return row.target == pair.weight; });
    FOVEA_CHECK(of != rows.end(), "decoder: no row for the weight of a bias");
    DecoderRow bias = *of;
    bias.name = bias_name(of->name), bias.hf_name = bias_name(of->hf_name);
    bias.shape = {of->shape[1] == kNone ? of->shape[0] : of->shape[1]};
    bias.target = pair.bias, bias.init = Init::zeros(), bias.optional = optional;
    bias.gguf.transposed = bias.hf.transposed = false;
    rows.push_back(std::move(bias));
  }
  return rows;
}

std::vector<DecoderRow> with_all_biases(std::vector<DecoderRow> rows) {
  using B = DecoderBlock;
  const std::vector<DecoderRow> weights = rows;
  const BiasOf all[] = {{&B::attn_norm, &B::b_attn_norm},
                        {&B::w_q, &B::b_q},
                        {&B::w_k, &B::b_k},
                        {&B::w_v, &B::b_v},
                        {&B::w_o, &B::b_o},
                        {&B::mlp_norm, &B::b_mlp_norm},
                        {&B::w_gate, &B::b_gate},
                        {&B::w_up, &B::b_up},
                        {&B::w_down, &B::b_down}};
  for (const BiasOf& pair : all) {
    const auto is = [&](const DecoderRow& row) { return row.target == pair.weight; };
    if (std::any_of(weights.begin(), weights.end(), is)) rows = with_biases(std::move(rows), {pair});
  }
  return rows;
}

std::vector<DecoderRow> with_attention_biases(std::vector<DecoderRow> rows) {
  using B = DecoderBlock;
  return with_biases(std::move(rows), {{&B::w_q, &B::b_q}, {&B::w_k, &B::b_k}, {&B::w_v, &B::b_v}, {&B::w_o, &B::b_o}},
                     /*optional=*/true);
}

std::vector<DecoderRow> with_mlp_biases(std::vector<DecoderRow> rows) {
  using B = DecoderBlock;
  return with_biases(std::move(rows), {{&B::w_gate, &B::b_gate}, {&B::w_up, &B::b_up}, {&B::w_down, &B::b_down}},
                     /*optional=*/true);
}

std::vector<DecoderRow> with_head_norms(std::vector<DecoderRow> rows) {
  rows.push_back({"attn_q_norm.weight", "self_attn.q_norm.weight", {kHead}, &DecoderBlock::q_norm, Init::ones()});
  rows.push_back({"attn_k_norm.weight", "self_attn.k_norm.weight", {kHead}, &DecoderBlock::k_norm, Init::ones()});
  return rows;
}

std::vector<Parameter> Decoder::weights() {
  const attention::ModelShape& s = cfg_.shape;
  std::vector<Parameter> table;
  for (const EndRow& row : style_.ends) {
    table.push_back(parameter(row, row.name, row.hf_name, ends_, cfg_, s.site(0)));
  }
  for (int l = 0; l < s.n_layers; ++l) {
    DecoderBlock& block = blocks_[static_cast<size_t>(l)];
    const attention::AttentionShape site = s.site(l);
    const bool mixes = cfg_.experts.in(l);
    const std::string gguf = fmt::format("{}{}.", style_.gguf_block, l), hf = fmt::format("{}{}.", style_.hf_block, l);
    for (const DecoderRow& row : style_.rows) {
      if (l == 0 && row.target == &DecoderBlock::attn_norm && !style_.first_norm) continue;
      if (!mixes || !is_mlp(row)) table.push_back(parameter(row, gguf + row.name, hf + row.hf_name, block, cfg_, site));
    }
    if (!mixes) continue;
    for (const DecoderRow& row : style_.router_rows)
      table.push_back(parameter(row, gguf + row.name, hf + row.hf_name, block, cfg_, site));
    block.experts.resize(static_cast<size_t>(cfg_.experts.n));
    for (int e = 0; e < cfg_.experts.n; ++e) {
      for (const ExpertRow& row : style_.expert_rows) {
        const auto named = [e](const std::string& name) {
          const size_t star = name.find('*');
          return star == name.npos ? name : fmt::format("{}{}{}", name.substr(0, star), e, name.substr(star + 1));
        };
        const auto sliced = [&](const Held& held, const std::string& name) {
          Stored how = stored(held, cfg_, site);
          if (name.find('*') == name.npos) how.slice = e, how.n_slices = cfg_.experts.n;
          return how;
        };
        Parameter p = parameter(row, gguf + named(row.name), hf + named(row.hf_name),
                                block.experts[static_cast<size_t>(e)], cfg_, site);
        p.gguf = sliced(row.gguf, row.name), p.hf = sliced(row.hf, row.hf_name);
        if (!row.hf_packed_name.empty())
          p.hf_packed_name = hf + row.hf_packed_name, p.hf_packed = sliced(row.hf_packed, row.hf_packed_name);
        table.push_back(std::move(p));
      }
    }
  }
  for (Parameter& p : table) {
    if (p.name.ends_with("norm.weight")) p.hf.plus = style_.hf_norm_plus;
  }
  return table;
}

}  // namespace fovea::models
