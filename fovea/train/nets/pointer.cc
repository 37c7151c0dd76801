// {"net": "pointer", ...}: a net whose answers are places of what it reads (Pointer Networks, Vinyals et al.,
// arXiv:1506.03134), with transformers where the paper has LSTMs: an encoder that sees the points as a set, a decoder
// that looks back at the points it has chosen and across at all of them, and
//   p(j) = softmax_j(v . tanh(W1 e[j] + W2 d)) over the points and the end of the answer.
// Points are the rows of a picture [1, n, width]; where a mask says 0 there is none. Tokens and targets are places of
// points; n, the picture's height, is the begin among tokens and the end among targets. A chosen point comes back as it
// was read, not as a place, so that answers may be longer than any in training.
#include <algorithm>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/train/nets/transformer.h"

namespace fovea::train {
namespace {

using attention::Site;
using tensor::Init;
using tensor::Tensor;

class Pointer final : public TransformerNet {
 public:
  Pointer(Settings& s, const Context& context) : TransformerNet(context) {
    width_ = s.integer("width", 2, 1, 1 << 16);
    sizes_ = read_tower(s);
    const int64_t decoder_layers = s.integer("decoder_layers", sizes_.n_layers, 1, 1 << 10);
    if (!s.good()) return;
    if (sizes_.head_dim() % 2 != 0) {
      s.wrong("n_heads", "leaves heads of an odd width");
      return;
    }
    const int64_t d = sizes_.d_model;
    points_ = Linear(params_, "points", width_, d, true, Init::xavier_normal());
    begin_ = params_.make("begin", {1, d}, Init::normal(0.02f));
    end_ = params_.make("end", {1, d}, Init::normal(0.02f));
    encoder_ = tower("encoder.blocks", sizes_, Looks::kBothWays);
    encoder_norm_ = LayerNorm(params_, "encoder.norm", d);
    for (int64_t l = 0; l < decoder_layers; ++l) {
      const std::string at = "blocks." + std::to_string(l) + ".";
      decoder_.push_back(
          {TransformerBlock(params_, at, sizes_), Cross(params_, at + "cross_attn.", d), shape_.n_layers});
      add_attention(sizes_.n_heads, sizes_.head_dim(), Looks::kBack);
      add_attention(sizes_.n_heads, sizes_.head_dim());
    }
    norm_ = LayerNorm(params_, "norm", d);
    of_key_ = Linear(params_, "point.key", d, d, false, Init::xavier_normal());
    of_query_ = Linear(params_, "point.query", d, d, false, Init::xavier_normal());
    score_ = Linear(params_, "point.score", d, 1, false, Init::xavier_normal());
  }

  Wants wants() const override { return {.channels = 1, .width = width_}; }
  std::string misfit(const Sample& sample) const override {
    const std::string wrong = unreadable(sample);
    return wrong.empty() && sample.n_targets() == 0 ? "wants nothing" : wrong;
  }

  attention::HookMap hooks() const override {
    using enum Site;
    attention::HookMap map(shape_);
    add_hooks(map, encoder_);
    constexpr Site kCross[] = {kQ, kK, kV, kScores, kPattern, kZ, kCrossAttnOut, kResidMidCross};
    for (size_t l = 0; l < decoder_.size(); ++l) {
      const std::string name = "blocks." + std::to_string(l);
      add_block_hooks(map, decoder_[l].layer, name, sizes_);
      map.add({.layer = decoder_[l].layer + 1, .name = name, .attention = "cross_attn"}, kCross);
    }
    return map;
  }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const Read read = read_all(samples);
    const Tensor points = points_(read.points);
    const Tensor encoded = encoder_norm_(through(encoder_, points, rows(read.n_points), pass));
    Tensor x = tensor::select_rows(tensor::concat({points, begin_}, 0), read.steps);
    x = norm_(decoded(std::move(x), encoded, read, pass));
    return class_loss(scores(tensor::select_rows(x, read.wanted), encoded, read), read.targets, pass);
  }

 private:
  struct Cross {  // attention of steps to points
    Cross(NetParams& params, const std::string& at, int64_t d)
        : norm(params, at + "norm", d),
          q(params, at + "q", d, d),
          k(params, at + "k", d, d, false),
          v(params, at + "v", d, d),
          proj(params, at + "proj", d, d) {}
    LayerNorm norm;
    Linear q, k, v, proj;
  };
  struct DecoderBlock {
    TransformerBlock block;
    Cross cross;
    int layer;  // of its own attention; the next is that across
  };
  // Samples one after the other.
  struct Read {
    Tensor points;                                     // [all, width]
    std::vector<int64_t> n_points = {}, n_steps = {};  // of each sample
    std::vector<int32_t> steps = {};                 // what each step reads: a row of `points`, or the one behind them
    std::vector<int32_t> wanted = {}, targets = {};  // steps, and the point of their sample or the end behind them
    std::vector<size_t> sample = {};                 // of each that is wanted
  };

  static int64_t n_points(const Picture& picture) {
    int64_t n = 0;
    for (; n < picture.height; ++n) {
      if (!picture.mask.empty() && picture.mask[static_cast<size_t>(n * picture.width)] == 0) break;
    }
    return n;
  }

  static std::string unreadable(const Sample& sample) {
    const int64_t n = n_points(*sample.picture), end = sample.picture->height;
    const auto place = [&](int32_t id) { return (id >= 0 && id < n) || id == end; };
    const auto target = [&](int32_t id) { return id < 0 || place(id); };
    if (n == 0) return "has no points";
    if (!std::all_of(sample.tokens.begin(), sample.tokens.end(), place))
      return "has tokens that are no places of points";
    if (!std::all_of(sample.targets.begin(), sample.targets.end(), target)) return "wants places where no points are";
    return "";
  }

  Read read_all(const std::vector<Sample>& samples) const {
    Read read;
    int64_t all = 0;
    for (const Sample& sample : samples) {
      const std::string wrong = unreadable(sample);
      FOVEA_CHECK(wrong.empty(), "a sample of this batch {}", wrong);
      read.n_points.push_back(n_points(*sample.picture));
      read.n_steps.push_back(static_cast<int64_t>(sample.tokens.size()));
      all += read.n_points.back();
    }
    read.points = Tensor::empty({all, width_});
    int64_t first = 0;
    for (size_t i = 0; i < samples.size(); ++i) {
      const Sample& sample = samples[i];
      const int64_t n = read.n_points[i];
      std::copy_n(sample.picture->pixels.data(), n * width_, read.points.data() + first * width_);
      for (size_t t = 0; t < sample.tokens.size(); ++t) {
        const int32_t target = sample.targets[t];
        if (target >= 0) {
          read.wanted.push_back(static_cast<int32_t>(read.steps.size()));
          read.targets.push_back(static_cast<int32_t>(std::min<int64_t>(target, n)));
          read.sample.push_back(i);
        }
        read.steps.push_back(static_cast<int32_t>(sample.tokens[t] < n ? first + sample.tokens[t] : all));
      }
      first += n;
    }
    return read;
  }

  Tensor decoded(Tensor x, const Tensor& encoded, const Read& read, const Pass& pass) const {
    attention::Hooks& hook = pass.hooks;
    const attention::Batch steps = rows(read.n_steps);
    for (const DecoderBlock& b : decoder_) {
      x = hook(Site::kResidPre, b.layer, std::move(x));
      {
        attention::Attend attend(attend_context(steps, pass));
        x = hook(Site::kResidMid, b.layer, b.block.attend_to(x, b.layer, attend, hook));
      }
      x = tensor::add(x, hook(Site::kCrossAttnOut, b.layer + 1, across(b, x, encoded, read, pass)));
      x = hook(Site::kResidMidCross, b.layer + 1, std::move(x));
      x = hook(Site::kResidPost, b.layer, b.block.mlp(x, b.layer, hook));
    }
    return x;
  }

  Tensor across(const DecoderBlock& b, const Tensor& x, const Tensor& encoded, const Read& read,
                const Pass& pass) const {
    const auto heads = [&](const Tensor& y) { return tensor::split_heads(y, sizes_.n_heads); };
    const Tensor q = heads(b.cross.q(b.cross.norm(x))), k = heads(b.cross.k(encoded)), v = heads(b.cross.v(encoded));
    std::vector<Tensor> parts;
    int64_t step = 0, point = 0;
    for (size_t i = 0; i < read.n_steps.size(); ++i) {
      const int64_t end_step = step + read.n_steps[i], end_point = point + read.n_points[i];
      const attention::Batch one = rows(1, read.n_steps[i]);
      attention::Attend attend(attend_context(one, pass));
      if (end_step > step)
        parts.push_back(attend.cross(b.layer + 1, tensor::slice(q, 0, step, end_step),
                                     tensor::slice(k, 0, point, end_point), tensor::slice(v, 0, point, end_point)));
      step = end_step, point = end_point;
    }
    return b.cross.proj(tensor::merge_heads(tensor::concat(parts, 0)));
  }

  // Of what is wanted: one column a point of its sample, then the end, then columns that no one can choose.
  Tensor scores(const Tensor& x, const Tensor& encoded, const Read& read) const {
    const Tensor keys = of_key_(tensor::concat({encoded, end_}, 0)), queries = of_query_(x);
    const int64_t columns = *std::max_element(read.n_points.begin(), read.n_points.end()) + 1;
    std::vector<int64_t> first = {0};  // of each sample's points
    for (const int64_t n : read.n_points) first.push_back(first.back() + n);
    const auto rows_of_queries = static_cast<int64_t>(read.wanted.size());
    std::vector<int32_t> key, query, place(static_cast<size_t>(rows_of_queries * columns), -1);
    for (int64_t r = 0; r < rows_of_queries; ++r) {
      const size_t i = read.sample[static_cast<size_t>(r)];
      for (int64_t j = 0; j <= read.n_points[i]; ++j) {
        place[static_cast<size_t>(r * columns + j)] = static_cast<int32_t>(key.size());
        key.push_back(static_cast<int32_t>(j < read.n_points[i] ? first[i] + j : first.back()));
        query.push_back(static_cast<int32_t>(r));
      }
    }
    std::replace(place.begin(), place.end(), -1, static_cast<int32_t>(key.size()));
    const Tensor pairs = tensor::add(tensor::select_rows(keys, key), tensor::select_rows(queries, query));
    const Tensor all = tensor::pad(score_(tensor::tanh(pairs)), 0, 0, 1, -1e30f);  // [pairs + 1, 1]
    return tensor::reshape(tensor::select_rows(all, place), {rows_of_queries, columns});
  }

  int64_t width_ = 2;
  TowerSizes sizes_;
  Linear points_;
  Tensor begin_, end_;
  Tower encoder_;
  std::vector<DecoderBlock> decoder_;
  LayerNorm encoder_norm_, norm_;
  Linear of_key_, of_query_, score_;
};
FOVEA_TRAIN_PART(TaskNet, "pointer", Pointer);

}  // namespace
}  // namespace fovea::train
