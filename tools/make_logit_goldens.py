"""Writes tests/golden/logits/<model>.json: what a model must answer, with `transformers` as the oracle.

  python3 tools/make_logit_goldens.py smollm2-135m qwen2.5-coder-0.5b        real models: sampled logits
  python3 tools/make_logit_goldens.py --tiny tests/data/tiny-llama.gguf ...  tiny models: everything

Token ids are stored, so a check needs no tokenizer. Whole rows would be too large for real models; each kept
position has the logits of 256 indices spread over the vocabulary, the 20 largest, and the log of the sum of
exponentials, which together leave no room for a wrong row. `float64_diff` is how far the same row moves when the
oracle computes its products in float64: a tolerance below a few times that asks for luck.
"""
import argparse
import json
import sys
from pathlib import Path

import torch
import transformers

import reference

OUT = Path(__file__).resolve().parent.parent / "tests/golden/logits"
LICENSES = Path("/usr/share/common-licenses")
N_INDICES, N_TOP, N_GREEDY = 256, 20, 32

CPP = r'''// Ring buffer with a fixed capacity: push overwrites the oldest element.
template <typename T, std::size_t kCapacity>
class RingBuffer {
 public:
  static_assert(kCapacity > 0, "an empty ring cannot hold anything");
  void push(const T& value) {
    items_[(first_ + count_) % kCapacity] = value;
    if (count_ < kCapacity) {
      ++count_;
    } else {
      first_ = (first_ + 1) % kCapacity;
    }
  }
  std::optional<T> pop() {
    if (count_ == 0) return std::nullopt;
    T value = std::move(items_[first_]);
    first_ = (first_ + 1) % kCapacity;
    --count_;
    return value;
  }
  [[nodiscard]] bool full() const noexcept { return count_ == kCapacity; }

 private:
  std::array<T, kCapacity> items_{};
  std::size_t first_ = 0, count_ = 0;
};

int main(int argc, char** argv) {
  RingBuffer<double, 16> window;
  double total = 0x1.8p3 + 3.14159e-2 + 1'000'000;
  for (std::string line; std::getline(std::cin, line);) {
    window.push(std::stod(line) / 2.5f);
    while (auto oldest = window.full() ? window.pop() : std::nullopt) total += *oldest;
  }
  fmt::print("{:.3f}\n", total); // sum of everything that left the window
  return argc > 1 ? EXIT_FAILURE : EXIT_SUCCESS;
}
'''
SCRIPTS = ("注意力机制让模型在每一步都能查看全部上下文。 الانتباه هو كل ما تحتاجه في هذا المثال. "
           "ध्यान ही सब कुछ है, ऐसा कहते हैं। Внимание — это всё, что нужно! ありがとう 🙂🚀👩‍💻🇫🇷 e\u0301 ½ ∑ Ω…")
CHAT = ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhich file opens the socket, "
        "and why?<|im_end|>\n<|im_start|>assistant\nThe socket is")


def prompts(tok):
    """(name, ids) at the lengths where kernels, key pages (32) and chunks behave differently."""
    def ids(text, n):
        out = tok.encode(text, add_special_tokens=False).ids
        assert len(out) >= n, f"{len(out)} tokens where {n} are wanted"
        return out[:n]
    return [("one token", ids("The", 1)), ("two tokens", ids("import numpy", 2)),
            ("English", ids("The capital of France is Paris, and the capital", 7)), ("chat", ids(CHAT, 31)),
            ("many scripts", ids(SCRIPTS, 64)), ("C++", ids(CPP, 300)),
            ("GPL-3", ids((LICENSES / "GPL-3").read_text(), 700)),
            ("MPL-2.0", ids((LICENSES / "MPL-2.0").read_text(), 1500))]


def digits(x):
    return float(f"{float(x):.7g}")


@torch.inference_mode()
def greedy(model, ids, n):
    """n tokens by arg max whatever they are (end marks too), and by how much each one won."""
    tokens, margins, cache = [], [], transformers.DynamicCache(config=model.config)
    step = torch.tensor([ids])
    for _ in range(n):
        row = model(step, past_key_values=cache, logits_to_keep=1).logits[0, -1]
        best = row.topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(digits(best.values[0] - best.values[1]))
        step = torch.tensor([tokens[-1:]])
    return tokens, margins


def kept_positions(n):
    return sorted({p for p in (0, 31, 32, n // 2, n - 2, n - 1) if 0 <= p < n})


@torch.inference_mode()
def sampled(model, path):
    vocab = model.config.vocab_size
    indices = [i * (vocab - 1) // (N_INDICES - 1) for i in range(N_INDICES)]
    out = []
    for name, ids in prompts(reference.tokenizer(path)):
        at = kept_positions(len(ids))
        rows = model(torch.tensor([ids])).logits[0, at]
        tokens, margins = greedy(model, ids, N_GREEDY)
        out.append({"name": name, "ids": ids, "greedy": tokens, "margins": margins, "positions": [
            {"position": p, "logits": [digits(x) for x in row[indices]],
             "top": [[int(i), digits(x)] for x, i in zip(*row.topk(N_TOP))],
             "logsumexp": digits(row.double().logsumexp(0)), "max_abs": digits(row.abs().max())}
            for p, row in zip(at, rows)]})
        out[-1]["_rows"] = rows.clone()
        print(f"{name}: {len(ids)} tokens, then {tokens[:8]}, smallest margin {min(margins)}", file=sys.stderr)
    model.double()
    for prompt in out:
        rows = prompt.pop("_rows")
        exact = model(torch.tensor([prompt["ids"]])).logits[0, kept_positions(len(prompt["ids"]))]
        for position, a, b in zip(prompt["positions"], rows, exact):
            position["float64_diff"] = float(f"{(a - b).abs().max().item():.2g}")
        print(f"{prompt['name']}: float64 moves logits by {[p['float64_diff'] for p in prompt['positions']]}",
              file=sys.stderr)
    return {"vocab_indices": indices, "prompts": out}


@torch.inference_mode()
def everything(model, n_tokens=40):
    """Every logit and every block's output; the ids walk through the whole vocabulary."""
    vocab = model.config.vocab_size
    ids = [(7 + 37 * i * i + 11 * i) % vocab for i in range(n_tokens)]
    residuals = []
    hooks = [block.register_forward_hook(lambda _m, _in, y: residuals.append(y[0] if y.ndim == 3 else y))
             for block in model.model.layers]
    logits = model(torch.tensor([ids])).logits[0]
    for hook in hooks:
        hook.remove()
    tokens, margins = greedy(model, ids, N_GREEDY)
    exact = model.double()(torch.tensor([ids])).logits[0]

    def table(x):
        return [[digits(v) for v in row] for row in x]
    return {"ids": ids, "greedy": tokens, "margins": margins, "logits": table(logits),
            "float64_diff": float(f"{(exact - logits).abs().max().item():.2g}"),
            "hooks": {f"blocks.{l}.hook_resid_post": table(x) for l, x in enumerate(residuals)}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="name in the store, or path")
    parser.add_argument("--tiny", action="store_true", help="keep every logit and every block's output")
    args = parser.parse_args()
    for name in args.models:
        path = reference.find_model(name)
        model = reference.load(path)
        golden = {"model": path.stem, "sha256": reference.sha256(path),
                  "oracle": f"transformers {transformers.__version__}, torch {torch.__version__}, float32, eager"}
        golden |= everything(model) if args.tiny else sampled(model, path)
        OUT.mkdir(parents=True, exist_ok=True)
        text = json.dumps(golden, separators=(",", ":")).replace('{"name"', '\n{"name"')
        (OUT / f"{path.stem}.json").write_text(text.replace('{"position"', '\n{"position"') + "\n")


main()
