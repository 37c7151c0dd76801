"""The nets of fovea/train/nets in PyTorch: losses as functions of parameters by name, for tools/compare_training.py."""

import torch
import torch.nn.functional as F

STEPS = 1000  # of the schedule of noise


def linear(p, name, x):
    return F.linear(x, p[name + ".weight"], p.get(name + ".bias"))


def conv(p, name, x, **how):
    return F.conv2d(x, p[name + ".weight"], p[name + ".bias"], **how)


def layer_norm(p, name, x):
    return F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], 1e-5)


def group_norm(p, name, x):
    groups = min(max(x.shape[1] // 4, 1), 8)
    while x.shape[1] % groups:
        groups -= 1
    return F.group_norm(x, groups, p[name + ".weight"], p[name + ".bias"], 1e-5)


def angles_of(x, half):
    return x[:, None] * 1e4 ** (-torch.arange(half, dtype=torch.double) / half)


def turned(x):
    half = x.shape[-1] // 2
    angles = angles_of(torch.arange(x.shape[-2]), half).to(x)
    a, b = x.chunk(2, -1)
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


def attention(heads, q, k, v, back=False, seen=None):
    """`back`: rows see those before them alone, and keys are turned by their positions; `seen`: keys of each sample."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    if back:
        q, k = turned(q), turned(k)
    seen = None if seen is None else seen[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, seen, is_causal=back).transpose(1, 2).flatten(2)


def attend(p, at, sizes, x, back=False, seen=None):
    h = layer_norm(p, at + "norm1", x)
    z = attention(sizes["n_heads"], *(linear(p, f"{at}attn.{part}", h) for part in "qkv"), back, seen)
    return x + linear(p, at + "attn.proj", z)


def mlp(p, at, x):
    return x + linear(p, at + "mlp.fc2", F.gelu(linear(p, at + "mlp.fc1", layer_norm(p, at + "norm2", x))))


def tower(p, name, sizes, x, back=False, seen=None):
    for i in range(sizes["n_layers"]):
        x = mlp(p, f"{name}.{i}.", attend(p, f"{name}.{i}.", sizes, x, back, seen))
    return x


def patches(p, at, net, batch):
    x = conv(p, at + "patch_embed", batch["images"], stride=net["patch"]).flatten(2).transpose(1, 2)
    return torch.cat([p[at + "cls"].expand(len(x), 1, -1), x], 1) + p[at + "positions"]


def vit(p, net, batch):
    x = tower(p, "blocks", net, patches(p, "", net, batch))
    return F.cross_entropy(linear(p, "head", layer_norm(p, "norm", x[:, 0])), batch["labels"])


def two_tower(p, net, batch):
    x = tower(p, "vision.blocks", net, patches(p, "vision.", net, batch))
    a = linear(p, "vision.proj", layer_norm(p, "vision.norm", x[:, 0]))
    ends = torch.full_like(batch["captions"][:, :1], net["vocab_size"])
    words = F.embedding(torch.cat([batch["captions"], ends], 1), p["words.weight"])
    x = tower(p, "blocks", {**net, **net["text"]}, words, back=True)
    b = linear(p, "proj", layer_norm(p, "norm", x[:, -1]))
    cosines = p["log_scale"].exp() * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    own = torch.arange(len(a))
    return (F.cross_entropy(cosines, own) + F.cross_entropy(cosines.T, own)) / 2


def vlm(p, net, batch):
    x = tower(p, "vision.blocks", {**net, **net["vision"]}, patches(p, "vision.", net, batch))
    x = linear(p, "projector.fc2", F.gelu(linear(p, "projector.fc1", x[:, 1:])))
    n, captions = x.shape[1], batch["captions"]
    x = tower(p, "blocks", net, torch.cat([x, F.embedding(captions, p["words.weight"])], 1), back=True)
    logits = linear(p, "head", layer_norm(p, "norm", x[:, n - 1:-1]))
    return F.cross_entropy(logits.flatten(0, 1), captions.flatten())


def pointer(p, net, batch):
    seen = batch["points_seen"]
    points = linear(p, "points", batch["points"])
    encoded = layer_norm(p, "encoder.norm", tower(p, "encoder.blocks", net, points, seen=seen))
    read = torch.cat([points, p["begin"].expand(len(points), 1, -1)], 1)  # place n is the begin
    x = read.take_along_dim(batch["tokens"][:, :, None], 1)
    for i in range(net["decoder_layers"]):
        at, cross = f"blocks.{i}.", f"blocks.{i}.cross_attn."
        x = attend(p, at, net, x, back=True)
        q = linear(p, cross + "q", layer_norm(p, cross + "norm", x))
        k, v = linear(p, cross + "k", encoded), linear(p, cross + "v", encoded)
        x = mlp(p, at, x + linear(p, cross + "proj", attention(net["n_heads"], q, k, v, seen=seen)))
    keys = linear(p, "point.key", torch.cat([encoded, p["end"].expand(len(points), 1, -1)], 1))
    queries = linear(p, "point.query", layer_norm(p, "norm", x))
    scores = linear(p, "point.score", (keys[:, None] + queries[:, :, None]).tanh())[..., 0]
    scores = scores.masked_fill(~F.pad(seen, (0, 1), value=True)[:, None], float("-inf"))
    return F.cross_entropy(scores.flatten(0, 1), batch["targets"].flatten(), ignore_index=-100)


def res(p, at, x, time):
    h = conv(p, at + "conv1", F.silu(group_norm(p, at + "norm1", x)), padding=1)
    h = h + linear(p, at + "time", time)[:, :, None, None]
    h = conv(p, at + "conv2", F.silu(group_norm(p, at + "norm2", h)), padding=1)
    return h + (conv(p, at + "skip", x) if at + "skip.weight" in p else x)


def places(p, name, heads, x, words):
    y = group_norm(p, name + ".norm", x).flatten(2).transpose(1, 2)
    for at, source in ((name + ".attn1.", None), (name + ".attn2.", words)):
        h = layer_norm(p, at + "norm", y)
        source = h if source is None else source
        z = attention(heads, linear(p, at + "q", h), linear(p, at + "k", source), linear(p, at + "v", source))
        y = y + linear(p, at + "out", z)
    return x + linear(p, name + ".out", y).transpose(1, 2).unflatten(2, x.shape[2:])


def noisy(batch):
    images, times = batch["images"], batch["times"]
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.double), 0)[times].to(images)[:, None, None, None]
    return kept.sqrt() * images + (1 - kept).sqrt() * batch["noise"]


def sines(batch, width):
    angles = angles_of(batch["times"], width // 2)
    return torch.cat([angles.cos(), angles.sin()], 1).to(batch["images"])


def unet(p, net, batch):
    noise, time = batch["noise"], sines(batch, net["width"])
    time = F.silu(linear(p, "time.fc2", F.silu(linear(p, "time.fc1", time))))
    words = F.embedding(batch["captions"], p["words.weight"])
    levels, skips = len(net["factors"]), []
    x = conv(p, "first", noisy(batch), padding=1)
    for i in range(levels):
        x = res(p, f"down.{i}.res.", x, time)
        if i + 1 == levels:
            x = places(p, "low", net["n_heads"], x, words)
        skips.append(x)
        if i + 1 < levels:
            x = conv(p, f"down.{i}.half", x, stride=2, padding=1)
    x = res(p, "middle.before.", x, time)
    x = res(p, "middle.after.", places(p, "middle", net["n_heads"], x, words), time)
    for n, i in enumerate(reversed(range(levels))):
        x = res(p, f"up.{i}.res.", torch.cat([x, skips.pop()], 1), time)
        if n == 0:
            x = places(p, "high", net["n_heads"], x, words)
        if i > 0:
            x = conv(p, f"up.{i}.twice", F.interpolate(x, scale_factor=2, mode="nearest"), padding=1)
    return F.mse_loss(conv(p, "last", F.silu(group_norm(p, "last_norm", x)), padding=1), noise)


def dit(p, net, batch):
    width, heads, patch, side = net["d_model"], net["n_heads"], net["patch"], net["size"] // net["patch"]
    c = linear(p, "time.fc2", F.silu(linear(p, "time.fc1", sines(batch, 256))))
    c = F.silu(c + F.embedding(batch["labels"], p["labels.weight"]))

    def norm(x):
        return F.layer_norm(x, x.shape[-1:], eps=1e-6)

    at = torch.arange(side * side)
    column, row = angles_of(at % side, width // 4), angles_of(at // side, width // 4)
    x = conv(p, "patch_embed", noisy(batch), stride=patch).flatten(2).transpose(1, 2)
    x = x + torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], 1).to(x)
    for i in range(net["n_layers"]):
        at = f"blocks.{i}."
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(p, at + "modulation", c)[:, None].chunk(6, -1)
        h = norm(x) * (1 + scale1) + shift1
        z = attention(heads, *(linear(p, f"{at}attn.{name}", h) for name in "qkv"))
        x = x + gate1 * linear(p, at + "attn.proj", z)
        h = F.gelu(linear(p, at + "mlp.fc1", norm(x) * (1 + scale2) + shift2), approximate="tanh")
        x = x + gate2 * linear(p, at + "mlp.fc2", h)
    shift, scale = linear(p, "last.modulation", c)[:, None].chunk(2, -1)
    x = linear(p, "last.out", norm(x) * (1 + scale) + shift).unflatten(2, (patch, patch, -1))
    x = x.unflatten(1, (side, side)).permute(0, 5, 1, 3, 2, 4).reshape(batch["noise"].shape)
    return F.mse_loss(x, batch["noise"])


def lstm(p, net, batch):
    width, layers = net["d_model"], net["n_layers"]
    rnn = torch.nn.LSTM(width, width, layers, batch_first=True).to(p["embed.weight"])
    x = F.embedding(batch["tokens"], p["embed.weight"])
    names = {name[4:]: value for name, value in p.items() if name.startswith("rnn.")}
    y = torch.func.functional_call(rnn, names, (x,))[0]
    return F.cross_entropy(linear(p, "head", y).flatten(0, 1), batch["targets"].flatten(), ignore_index=-100)


def mixer(p, net, batch):
    width, kind = net["d_model"], net["mixer"]
    x = F.embedding(batch["tokens"], p["embed.weight"])
    for i in range(net["n_layers"]):
        at = f"blocks.{i}."
        h = layer_norm(p, at + "norm1", x)
        if kind == "linear-attention":  # all pairs at once, masked
            q, k, v = (linear(p, f"{at}mix.{name}", h).unflatten(-1, (net["n_heads"], -1)).transpose(1, 2) for name in "qkv")
            weights = ((F.elu(q) + 1) @ (F.elu(k) + 1).transpose(2, 3)).tril()
            y = (weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)).transpose(1, 2).flatten(2)
        else:
            gate, value = linear(p, at + "mix.gate", h), linear(p, at + "mix.value", h)
        if kind == "decay":
            z, state, states = gate.sigmoid(), torch.zeros_like(value[:, 0]), []
            for t in range(value.shape[1]):
                state = (1 - z[:, t]) * state + z[:, t] * value[:, t]
                states.append(state)
            y = torch.stack(states, 1)
        if kind == "conv":
            before = F.pad(value.transpose(1, 2), (net["kernel"] - 1, 0))
            y = F.conv1d(before, p[at + "mix.filter.weight"][:, None], p[at + "mix.filter.bias"], groups=width)
            y = gate * y.transpose(1, 2)
        x = x + linear(p, at + "mix.out", y)
        x = x + linear(p, at + "mlp.fc2", F.gelu(linear(p, at + "mlp.fc1", layer_norm(p, at + "norm2", x))))
    y = linear(p, "head", layer_norm(p, "norm", x))
    return F.cross_entropy(y.flatten(0, 1), batch["targets"].flatten(), ignore_index=-100)


LOSSES = {"vit": vit, "unet": unet, "dit": dit, "lstm": lstm, "mixer": mixer,
          "two-tower": two_tower, "vlm": vlm, "pointer": pointer}
