// {"net": "unet", ...}: a U-Net that finds the noise in a picture (Ho et al., arXiv:2006.11239): residual blocks that
// know the step of the schedule, at the lowest level attention of places to each other and, where captions are read, to
// their tokens (Rombach et al., arXiv:2112.10752). The loss is the mean square of what it is off.
#include "fovea/train/nets/noise.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace {

using attention::Site;
using tensor::Init;
using tensor::Tensor;
using tensor::Weight;

class Unet final : public TaskNet {
 public:
  Unet(Settings& s, const Context& context) : TaskNet(context) {
    size_ = s.integer("size", std::nullopt, 2, 4096);
    channels_ = s.integer("channels", 3, 1, 64);
    width_ = s.integer("width", std::nullopt, 2, 1 << 14);
    heads_ = s.integer("n_heads", 4, 1, 256);
    vocab_size_ = s.integer("vocab_size", 0, 0, 1 << 24);
    const std::vector<int64_t> factors = s.integers("factors", {1, 2}, 1, 64);
    if (!s.good()) return;
    if (width_ % 2 != 0) {
      s.wrong("width", "is odd; half of it are sines of the time");
      return;
    }
    if (factors.empty() || size_ % (int64_t{1} << (factors.size() - 1)) != 0) {
      s.wrong("factors", "has more levels than the picture can be halved, or none");
      return;
    }
    if (factors.back() * width_ % heads_ != 0) {
      s.wrong("n_heads", "does not divide the width of the last level");
      return;
    }
    build(factors);
  }

  Wants wants() const override {
    return {.channels = channels_, .height = size_, .width = size_, .vocab_size = vocab_size_};
  }
  int64_t count(const std::vector<Sample>& samples) const override {
    return static_cast<int64_t>(samples.size()) * channels_ * size_ * size_;
  }

  attention::HookMap hooks() const override {
    using enum Site;
    attention::HookMap map(shape_);
    constexpr Site kSelf[] = {kQ, kK, kV, kScores, kPattern, kZ, kAttnOut};
    constexpr Site kCross[] = {kQ, kK, kV, kScores, kPattern, kZ, kCrossAttnOut};
    for (const Places* places : spots())
      for (int i = 0; i < (vocab_size_ > 0 ? 2 : 1); ++i)
        map.add({.layer = places->layer + i, .name = "unet." + places->name, .attention = i == 0 ? "attn1" : "attn2"},
                i == 0 ? std::span<const Site>(kSelf) : std::span<const Site>(kCross));
    return map;
  }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const NoisyPictures in = schedule_(samples, pass.key);
    return tensor::squared_error(predict(in.pixels, in.times, samples, pass), in.noise);
  }

 private:
  struct Res {
    Res() = default;
    Res(NetParams& params, const std::string& at, int64_t in, int64_t out, int64_t time)
        : norm1(params, at + "norm1", in),
          norm2(params, at + "norm2", out),
          conv1(params, at + "conv1", in, out, 3, {.pad = 1}),
          conv2(params, at + "conv2", out, out, 3, {.pad = 1}),
          of_time(params, at + "time", time, out) {
      if (in != out) skip = Conv(params, at + "skip", in, out, 1);
    }
    // x [batch, in, h, w] and the embedded time [batch, time]
    Tensor operator()(const Tensor& x, const Tensor& time) const {
      Tensor h = conv1(tensor::silu(norm1(x)));
      const Tensor shift = of_time(time);
      h = tensor::add_spread(h, tensor::reshape(shift, {shift.dim(0), shift.dim(1), 1, 1}));
      h = conv2(tensor::silu(norm2(h)));
      return tensor::add(h, skip.weight.defined() ? skip(x) : x);
    }
    GroupNorm norm1, norm2;
    Conv conv1, conv2, skip;
    Linear of_time;
  };
  struct Heads {
    Heads() = default;
    Heads(NetParams& params, const std::string& at, int64_t d, int64_t source)
        : norm(params, at + "norm", d),
          q(params, at + "q", d, d),
          k(params, at + "k", source, d, false),
          v(params, at + "v", source, d),
          out(params, at + "out", d, d) {}
    LayerNorm norm;
    Linear q, k, v, out;
  };
  struct Places {  // attention among the places of a picture, and to its caption
    std::string name;
    int layer = 0;
    GroupNorm norm;
    Heads self, cross;
    Linear out;
  };
  struct Down {
    Res res;
    Conv half;  // none at the lowest level
  };
  struct Up {
    Res res;
    Conv twice;  // none at the highest
  };

  std::vector<const Places*> spots() const { return {&low_, &middle_, &high_}; }

  Places places(const std::string& name, int64_t d) {
    Places p;
    const std::string at = name + ".";
    p.name = name;
    p.layer = shape_.n_layers;
    p.norm = GroupNorm(params_, at + "norm", d);
    p.self = Heads(params_, at + "attn1.", d, d);
    add_attention(heads_, d / heads_);
    if (vocab_size_ > 0) {
      p.cross = Heads(params_, at + "attn2.", d, width_);
      add_attention(heads_, d / heads_);
    }
    p.out = Linear(params_, at + "out", d, d);
    return p;
  }

  void build(const std::vector<int64_t>& factors) {
    const int64_t time = 4 * width_;
    time1_ = Linear(params_, "time.fc1", width_, time);
    time2_ = Linear(params_, "time.fc2", time, time);
    if (vocab_size_ > 0)
      words_ = Weight::from("words", params_.make("words.weight", {vocab_size_, width_}, Init::normal(1)));
    first_ = Conv(params_, "first", channels_, width_, 3, {.pad = 1});
    int64_t in = width_;
    for (size_t i = 0; i < factors.size(); ++i) {
      const std::string at = "down." + std::to_string(i) + ".";
      const int64_t out = width_ * factors[i];
      Down down;
      down.res = Res(params_, at + "res.", in, out, time);
      if (i + 1 < factors.size()) down.half = Conv(params_, at + "half", out, out, 3, {.stride = 2, .pad = 1});
      downs_.push_back(std::move(down));
      in = out;
    }
    low_ = places("low", in);
    before_ = Res(params_, "middle.before.", in, in, time);
    middle_ = places("middle", in);
    after_ = Res(params_, "middle.after.", in, in, time);
    for (size_t i = factors.size(); i-- > 0;) {
      const std::string at = "up." + std::to_string(i) + ".";
      const int64_t out = width_ * factors[i];
      Up up;
      up.res = Res(params_, at + "res.", in + out, out, time);
      if (i + 1 == factors.size()) high_ = places("high", out);
      if (i > 0) up.twice = Conv(params_, at + "twice", out, out, 3, {.pad = 1});
      ups_.push_back(std::move(up));
      in = out;
    }
    last_norm_ = GroupNorm(params_, "last_norm", in);
    last_ = Conv(params_, "last", in, channels_, 3, {.pad = 1});
  }

  Tensor predict(const Tensor& images, const std::vector<int32_t>& times, const std::vector<Sample>& samples,
                 const Pass& pass) const {
    const Tensor time = tensor::silu(time2_(tensor::silu(time1_(sines_of(times, width_)))));
    const Captions captions = captions_of(samples);
    Tensor x = first_(images);
    std::vector<Tensor> skips;
    for (const Down& down : downs_) {
      x = down.res(x, time);
      if (!down.half.weight.defined()) x = attend(low_, x, captions, pass);
      skips.push_back(x);
      if (down.half.weight.defined()) x = down.half(x);
    }
    x = after_(attend(middle_, before_(x, time), captions, pass), time);
    for (const Up& up : ups_) {
      x = up.res(tensor::concat({x, skips.back()}, 1), time);
      skips.pop_back();
      if (&up == &ups_.front()) x = attend(high_, x, captions, pass);
      if (up.twice.weight.defined()) x = up.twice(tensor::upsample(x, 2));
    }
    return last_(tensor::silu(last_norm_(x)));
  }

  // Of all samples, one after the other; those of sample i end before ends[i]. None: no net of captions.
  struct Captions {
    Tensor words = {};
    std::vector<int64_t> ends = {};
  };
  Captions captions_of(const std::vector<Sample>& samples) const {
    if (vocab_size_ == 0) return {};
    Captions out;
    std::vector<int32_t> tokens;
    for (const Sample& sample : samples) {
      tokens.insert(tokens.end(), sample.tokens.begin(), sample.tokens.end());
      out.ends.push_back(static_cast<int64_t>(tokens.size()));
    }
    out.words = tensor::embed(words_, tokens);
    return out;
  }

  Tensor attend(const Places& p, const Tensor& x, const Captions& captions, const Pass& pass) const {
    const int64_t batch = x.dim(0), d = x.dim(1), h = x.dim(2), w = x.dim(3), n = h * w;
    const auto heads = [&](const Tensor& rows) { return tensor::split_heads(rows, heads_); };
    Tensor y = tensor::reshape(tensor::permute(p.norm(x), {0, 2, 3, 1}), {batch * n, d});
    const attention::Batch all = rows(batch, n);
    {
      attention::Attend attend(attend_context(all, pass));
      const Tensor in = p.self.norm(y);
      const Tensor z = attend(
          p.layer, {.q = heads(p.self.q(in)), .k = heads(p.self.k(in)), .v = heads(p.self.v(in)), .x = y, .h = in});
      y = tensor::add(y, pass.hooks(Site::kAttnOut, p.layer, p.self.out(tensor::merge_heads(z))));
    }
    if (captions.words.defined()) {
      const Tensor q = heads(p.cross.q(p.cross.norm(y)));
      const Tensor k = heads(p.cross.k(captions.words)), v = heads(p.cross.v(captions.words));
      std::vector<Tensor> parts;
      const attention::Batch one = rows(1, n);
      for (int64_t i = 0; i < batch; ++i) {
        const int64_t begin = i == 0 ? 0 : captions.ends[static_cast<size_t>(i - 1)],
                      end = captions.ends[static_cast<size_t>(i)];
        attention::Attend attend(attend_context(one, pass));
        parts.push_back(
            tensor::merge_heads(attend.cross(p.layer + 1, tensor::slice(q, 0, i * n, (i + 1) * n),
                                             tensor::slice(k, 0, begin, end), tensor::slice(v, 0, begin, end))));
      }
      y = tensor::add(y, pass.hooks(Site::kCrossAttnOut, p.layer + 1, p.cross.out(tensor::concat(parts, 0))));
    }
    return tensor::add(x, tensor::permute(tensor::reshape(p.out(y), {batch, h, w, d}), {0, 3, 1, 2}));
  }

  int64_t size_ = 0, channels_ = 0, width_ = 0, heads_ = 1, vocab_size_ = 0;
  NoiseSchedule schedule_;
  Linear time1_, time2_;
  Weight words_;
  Conv first_, last_;
  GroupNorm last_norm_;
  std::vector<Down> downs_;
  std::vector<Up> ups_;
  Res before_, after_;
  Places low_, middle_, high_;
};
FOVEA_TRAIN_PART(TaskNet, "unet", Unet);

}  // namespace
}  // namespace fovea::train
