"""Small tokenizers of every kind and with every component, for make_tokenizer_goldens.py and compare_tokenizers.py.

    pip install tokenizers sentencepiece
"""
import base64
import io
import itertools
import json
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIXED = ROOT / "tests/golden/tokens/mixed.txt"


def training_lines():
    lines = MIXED.read_bytes().decode().split("\n")
    return [line.rstrip("\r") for line in lines]


def vocab_of(tok):
    return json.loads(tok.to_str())


def base_models():
    """NAME -> the "model" of a tokenizer.json, trained on the mixed text; small, with gaps where characters are unknown."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    lines = training_lines()
    out = {}
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=520, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    out["bytes"] = vocab_of(tok)["model"]

    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tok.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=600, limit_alphabet=120, special_tokens=special, show_progress=False))
    out["fallback"] = vocab_of(tok)["model"]
    # No token goes over the space in front of a word, so that words can be cut there; and a twin where some do.
    kept = {t: i for t, i in out["fallback"]["vocab"].items() if "▁" not in t.lstrip("▁")}
    kept = {t: i for i, t in enumerate(kept)}
    out["words"] = dict(out["fallback"], vocab=kept, merges=[m for m in out["fallback"]["merges"] if "".join(m) in kept])

    tok = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=400, limit_alphabet=100, special_tokens=["<unk>"], continuing_subword_prefix="##", end_of_word_suffix="</w>", show_progress=False))
    out["marks"] = vocab_of(tok)["model"]

    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=500, limit_alphabet=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    out["pieces"] = vocab_of(tok)["model"]

    from collections import Counter
    common = {c for c, _ in Counter("".join(lines)).most_common(180)}
    tok = Tokenizer(models.Unigram())
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.train_from_iterator([line for line in lines if set(line) <= common], trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False))
    out["unigram"] = vocab_of(tok)["model"]
    # Numbers of few digits are read alike everywhere; others may differ in their last bit, which decides between equals.
    out["unigram"]["vocab"] = [[token, round(score, 4)] for token, score in out["unigram"]["vocab"]]

    tok = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.train_from_iterator(lines, trainers.WordLevelTrainer(vocab_size=150, special_tokens=["<unk>"], show_progress=False))
    out["list"] = vocab_of(tok)["model"]
    return out


SMALL_RULES = ["41 30A\tC5", "65 301\tE9", "BD\t31 2044 32", "FF37\t57", "3000\t20", "9\t20", "A0\t20", "AD\t", "2460\t31", "FB01\t66 69", "61 323 307\t1EA1"]


def charsmap(whole):
    """The table of SentencePiece's nmt_nfkc, or a small one, cut out of a model that its package trains."""
    if whole:
        return trained_sentencepiece("unigram", normalization_rule_name="nmt_nfkc").normalizer_spec.precompiled_charsmap
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:
        f.write("\n".join(SMALL_RULES) + "\n")
        f.flush()
        return trained_sentencepiece("unigram", normalization_rule_tsv=f.name).normalizer_spec.precompiled_charsmap


def trained_sentencepiece(kind, **options):
    import sentencepiece as sp
    from sentencepiece import sentencepiece_model_pb2 as pb
    out = io.BytesIO()
    settings = dict(vocab_size=600, character_coverage=0.98, model_type=kind, max_sentence_length=100000, hard_vocab_limit=False, num_threads=1, minloglevel=2)
    settings.update(options)
    sp.SentencePieceTrainer.train(sentence_iterator=iter(training_lines()), model_writer=out, **settings)
    model = pb.ModelProto()
    model.ParseFromString(out.getvalue())
    return model


def sentencepiece_options(whole_charsmap=False):
    """NAME -> how a tokenizer.model is trained."""
    plain = dict(normalization_rule_name="identity", remove_extra_whitespaces=False)
    out = {
        "plain": plain,
        "spaces": dict(normalization_rule_name="identity"),
        "bytes": dict(plain, byte_fallback=True, add_dummy_prefix=False, user_defined_symbols=["▁▁", "▁▁▁▁", "<tool>"], vocab_size=900),
    }
    if whole_charsmap:
        out.update(nmt={}, nfkc=dict(normalization_rule_name="nfkc_cf", add_dummy_prefix=False))
    return out


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def added(i, content, **flags):
    return dict({"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}, **flags)


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def seq(field, *steps):
    return {"type": "Sequence", field: list(steps)}


def variants(whole_charsmap=False):
    """NAME -> (model, the rest of a tokenizer.json)."""
    bytes_out = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    byte_plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    llama_norm = seq("normalizers", {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    llama_out = seq("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
    meta = lambda scheme, split=True: {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    bert_norm = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    piece_out = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    bert_post = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    base64_map = base64.b64encode(charsmap(whole_charsmap)).decode()
    v = {}
    v["gpt2"] = ("bytes", dict(pre_tokenizer=byte_level, decoder=bytes_out, post_processor=bytes_out))
    v["gpt2-prefix"] = ("bytes", dict(pre_tokenizer=bytes_out, decoder=bytes_out))
    v["smollm"] = ("bytes", dict(pre_tokenizer=seq("pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level), decoder=bytes_out))
    v["llama3"] = ("bytes", dict(pre_tokenizer=seq("pretokenizers", split({"Regex": LLAMA3}), byte_plain), decoder=bytes_out, ignore_merges=True))
    v["cl100k-removed"] = ("bytes", dict(pre_tokenizer=seq("pretokenizers", split({"Regex": LLAMA3}, "Removed", True), byte_plain), decoder=bytes_out))
    v["o200k"] = ("bytes", dict(pre_tokenizer=seq("pretokenizers", split({"Regex": O200K}), byte_plain), decoder=bytes_out))
    v["deepseek"] = ("bytes", dict(pre_tokenizer=seq("pretokenizers", split({"Regex": r"\p{N}{1,3}"}), split({"Regex": "[一-龥぀-ゟ゠-ヿ]+"}),
        split({"Regex": r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""}), byte_plain), decoder=bytes_out))
    v["falcon"] = ("bytes", dict(pre_tokenizer=seq("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, byte_level, {"type": "Digits", "individual_digits": False}, split({"Regex": "[0-9][0-9][0-9]"})), decoder=bytes_out))
    v["byte-normalizer"] = ("bytes", dict(normalizer=seq("normalizers", {"type": "NFC"}, {"type": "ByteLevel"}), pre_tokenizer={"type": "WhitespaceSplit"}, decoder=bytes_out))
    v["superbpe"] = ("bytes", dict(pre_tokenizer=seq("pretokenizers", split({"Regex": r"\p{N}+"}), split({"Regex": r"(?=(\d{3})+(?!\d))"}), byte_plain), decoder=bytes_out))
    for form in ["NFC", "NFD", "NFKC", "NFKD"]:
        v[form.lower()] = ("bytes", dict(normalizer={"type": form}, pre_tokenizer=byte_level, decoder=bytes_out))
    v["lowercase"] = ("bytes", dict(normalizer=seq("normalizers", {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True}), pre_tokenizer=byte_level, decoder=bytes_out))
    v["accents"] = ("bytes", dict(normalizer=seq("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Strip", "strip_left": False, "strip_right": True}), pre_tokenizer=byte_level, decoder=bytes_out))
    v["nmt"] = ("bytes", dict(normalizer=seq("normalizers", {"type": "Nmt"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "_"}, {"type": "Prepend", "prepend": ">"}), pre_tokenizer=byte_level, decoder=bytes_out))
    v["replace-empty"] = ("bytes", dict(normalizer={"type": "Replace", "pattern": {"Regex": r"\d+(?=\.)|[aeiou]{2}"}, "content": "<>"}, pre_tokenizer=byte_level, decoder=bytes_out))
    specials = [added(520, "<|end|>"), added(521, "<tool>", special=False, normalized=True), added(522, "ships", special=False, single_word=True), added(523, "<mask>", lstrip=True), added(524, "<br>", rstrip=True, special=False), added(525, "  ", special=False)]
    v["added"] = ("bytes", dict(pre_tokenizer=byte_level, decoder=bytes_out, added_tokens=specials))
    v["added-normalized"] = ("bytes", dict(normalizer={"type": "Lowercase"}, pre_tokenizer=byte_level, decoder=bytes_out, added_tokens=[added(520, "Der", special=False, normalized=True), added(521, "INT", special=False)]))
    v["roberta"] = ("bytes", dict(pre_tokenizer=byte_level, decoder=bytes_out, post_processor={"type": "RobertaProcessing", "sep": ["a", 70], "cls": ["b", 71], "trim_offsets": True, "add_prefix_space": False}))

    llama_added = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
    v["llama2"] = ("fallback", dict(normalizer=llama_norm, decoder=llama_out, post_processor=template, added_tokens=llama_added))
    v["llama2-words"] = ("words", dict(normalizer=llama_norm, decoder=llama_out, post_processor=template, added_tokens=llama_added))
    v["llama2-old"] = ("fallback", dict(normalizer=llama_norm, decoder=llama_out, added_tokens=[added(0, "<unk>", normalized=True), added(1, "<s>", normalized=True), added(2, "</s>", normalized=True)]))
    v["mistral-first"] = ("fallback", dict(pre_tokenizer=meta("first", False), decoder=llama_out, added_tokens=llama_added, post_processor=seq("processors", bytes_out, template)))
    v["gemma"] = ("words", dict(normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, pre_tokenizer=split({"String": " "}, "MergedWithPrevious"), decoder=seq("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}), added_tokens=llama_added + [added(600, "\n\n", special=False), added(601, "▁▁", special=False)]))
    for fuse in (True, False):
        v[f"unknown-{'fused' if fuse else 'apart'}"] = ("fallback", dict(normalizer=llama_norm, decoder=llama_out, byte_fallback=False, fuse_unk=fuse))
    v["unknown-none"] = ("fallback", dict(normalizer=llama_norm, byte_fallback=False, unk_token=None))
    v["marks"] = ("marks", dict(pre_tokenizer={"type": "Whitespace"}, decoder={"type": "BPEDecoder", "suffix": "</w>"}))

    bert_added = [added(i, t) for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])]
    v["bert"] = ("pieces", dict(normalizer=bert_norm, pre_tokenizer={"type": "BertPreTokenizer"}, decoder=piece_out, post_processor=bert_post, added_tokens=bert_added))
    v["bert-cased"] = ("pieces", dict(normalizer=dict(bert_norm, lowercase=False), pre_tokenizer={"type": "BertPreTokenizer"}, decoder=dict(piece_out, cleanup=False), post_processor=bert_post, added_tokens=bert_added))
    v["bert-accents"] = ("pieces", dict(normalizer=dict(bert_norm, strip_accents=False, handle_chinese_chars=False), pre_tokenizer={"type": "BertPreTokenizer"}, decoder=piece_out))
    v["bert-dirty"] = ("pieces", dict(normalizer=dict(bert_norm, clean_text=False, strip_accents=True, lowercase=False), pre_tokenizer={"type": "WhitespaceSplit"}, decoder=piece_out, max_input_chars_per_word=12))
    steps = {"words": {"type": "Whitespace"}, "scripts": {"type": "UnicodeScripts"}, "delimiter": {"type": "CharDelimiterSplit", "delimiter": "e"}, "length": {"type": "FixedLength", "length": 3}}
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        steps["punctuation-" + behavior.lower()] = {"type": "Punctuation", "behavior": behavior}
        for invert in (False, True):
            steps[f"regex-{behavior.lower()}{'-invert' if invert else ''}"] = split({"Regex": r"[aeiou]+|\s"}, behavior, invert)
        steps["text-" + behavior.lower()] = split({"String": "ne"}, behavior)
    for name, step in steps.items():
        v["split-" + name] = ("pieces", dict(normalizer=bert_norm, pre_tokenizer=step, decoder=piece_out))

    v["t5"] = ("unigram", dict(normalizer={"type": "Precompiled", "precompiled_charsmap": base64_map}, pre_tokenizer=seq("pretokenizers", {"type": "WhitespaceSplit"}, meta("always")), decoder=meta("always"), added_tokens=[added(0, "<unk>"), added(1, "</s>")],
        post_processor={"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}], "pair": [], "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}))
    for scheme in ["always", "first", "never"]:
        for whole in (True, False):
            v[f"metaspace-{scheme}{'' if whole else '-whole'}"] = ("unigram", dict(pre_tokenizer=meta(scheme, whole), decoder=meta(scheme, whole), added_tokens=[added(0, "<unk>"), added(1, "</s>")]))
    v["unigram-letters"] = ("unigram", dict(pre_tokenizer=byte_level, decoder=bytes_out))
    v["list"] = ("list", dict(pre_tokenizer={"type": "Whitespace"}, decoder=None))
    v["ctc"] = ("list", dict(pre_tokenizer={"type": "Whitespace"}, decoder={"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}))
    return v


def whole_json(models, variant):
    """A tokenizer.json out of a model and the rest; fields of the model are given beside the others."""
    model, rest = variant
    rest = dict(rest)
    out = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": rest.pop("added_tokens", [])}
    for key in ["normalizer", "pre_tokenizer", "post_processor", "decoder"]:
        out[key] = rest.pop(key, None)
    out["model"] = dict(models[model], **rest)
    # The library numbers what is not in the vocabulary itself, from its end on.
    vocab = out["model"]["vocab"]
    known = vocab if isinstance(vocab, dict) else {t: i for i, (t, _) in enumerate(vocab)}
    fresh = itertools.count(len(known))
    out["added_tokens"] = [dict(t, id=known[t["content"]] if t["content"] in known else next(fresh)) for t in out["added_tokens"]]
    return out


EXTRA = ["", " ", "  ", "a", "Hello, world", "it's I'LL we'Re", "e\u0301te\u0301 a\u0323\u0307 한 Å ﬁ क़ ½ ① Ｆｕｌｌ　width", "\u0000\u0001\u0004\u001d\u007f\u008f", "\ufeffBOM \u200b\u200d\u00ad",
         "\u202eRTL\u202c", "\ue000\U000f0000", "\u0378\uffff", "\n\n\n  \n\tx", "1234567890 12,345.67", "x" + "\u0301" * 40, "🙂" * 20, "İstanbul ΑΣ ß ǅ", "  leading and trailing  ", "\r\n\r\n a\r\nb",
         "a<|end|>b", "<|end|><|end|> x", "the ships, unships ships", "a  <mask>  b<br>  \n c", "x<tool>y <TOOL> Der DER der INT int", "<s>a</s> <s> b </s>b<unk>", "[CLS] a [SEP] [MASK].", "▁a▁▁b ▁", "<0x41> <0xC3><0xA9>",
         "don't can't  do not . , ' n't 's !", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ship-shape ##ing the##re", "中文字符 テスト 한국어 ภาษาไทย", "Ⅷ ⅷ ٣ ४ ⁵", "🇩🇪🇯🇵 👩‍💻 ❤️ 1️⃣"]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
BLANKS = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (r"\s?[A-Za-z"
         r"\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}"
         r"\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}"
         r"\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}"
         r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}"
         r"\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}"
         r"\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}"
         r"\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}"
         r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}"
         r"\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+")
WORDS = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
HAN = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+"
# What GGUF files name in tokenizer.ggml.pre: expressions that cut one after the other.
PRE = {
    "smollm": [r"\p{N}", GPT2], "gpt-2": [GPT2], "olmo": [GPT2], "qwen2": [QWEN2], "stablelm2": [QWEN2],
    "qwen35": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + BLANKS],
    "llama-bpe": [LLAMA3], "dbrx": [LLAMA3], "gpt-4o": [O200K],
    "tekken": [O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")],
    "deepseek-llm": [r"[\r\n]", CASED, r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+", r"\s+$", HAN, r"\p{N}+"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+", r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*""" + BLANKS],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "bloom": [WORDS], "viking": [WORDS, r"\p{N}"],
    "bailingmoe": [r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "seed-coder": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + BLANKS],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
}
