#!/usr/bin/env python3
"""Writes tests/golden/tokens/: 100 kB of mixed text and what `tokenizers` makes of it.

    pip install tokenizers gguf numpy torch transformers
    tools/make_token_goldens.py                 # both models must be in the store
    tools/make_token_goldens.py --peer          # and compare with llama.cpp (pip install xllamacpp)

mixed.txt    the text: 16 scripts, code, emoji, runs of white space, digits, rare characters (NFC)
NAME.json    for each model: per line and for the whole text [number of ids, hash]; some short texts
             with all their ids, among them what is not NFC and what has no token
"""
import json
import random
import sys
import unicodedata
from pathlib import Path

import reference

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/tokens"
SIZE = 100_000
MODELS = ["smollm2-135m", "qwen2.5-coder-0.5b", ROOT / "tests/data/tiny-llama.gguf", ROOT / "tests/data/tiny-qwen2.gguf"]

SENTENCES = """The lighthouse keeper's daughter couldn't read the ledger; she'd counted 1,024 ships by their lamps, hadn't she?
Straße und Größe: Äpfel, Öl und Übermut schmecken süß – „so“, sagte sie, ›nicht anders‹.
Những con thuyền nhỏ trở về bến lúc hoàng hôn, chở đầy cá và tiếng hát của người dân làng chài.
Çiğdem'in İstanbul'daki evinde ışık söndü; gökyüzünde yıldızlar parlıyordu.
Ο φάρος στέκεται πάνω στον βράχο και το φως του φτάνει ως το απέναντι νησί· ποιος τον άναψε;
Старый смотритель маяка записывал в журнал каждый корабль, что проходил мимо в тумане. Їжак з’їв ґедзя.
كان حارس المنارة يكتب في دفتره اسم كل سفينة تمر في الليل، ولم ينسَ واحدةً منها قطّ.
שומר המגדלור רשם ביומנו כל אונייה שעברה בלילה, ואף לא אחת מהן נשכחה.
प्रकाशस्तंभ का रखवाला रात में गुज़रने वाले हर जहाज़ का नाम अपनी पुस्तिका में लिखता था।
বাতিঘরের রক্ষক রাতে যে জাহাজগুলি পেরিয়ে যেত তাদের নাম খাতায় লিখে রাখতেন।
கலங்கரை விளக்கத்தின் காவலர் இரவில் கடந்து சென்ற ஒவ்வொரு கப்பலின் பெயரையும் எழுதி வைத்தார்.
ผู้ดูแลประภาคารจดชื่อเรือทุกลำที่แล่นผ่านในยามค่ำคืนไว้ในสมุดของเขา
등대지기는 밤에 지나가는 모든 배의 이름을 공책에 적어 두었고, 하나도 잊지 않았다.
灯台守は夜に通り過ぎる船の名前をすべて帳面に書きとめ、ひとつも忘れなかった。カタカナもある。
灯塔的看守人把夜里经过的每一艘船的名字都写在本子上，一艘也没有忘记。龍馬精神，萬事如意！
Փարոսի պահապանը գրի էր առնում գիշերով անցնող ամեն նավի անունը։
შუქურის მცველი რვეულში წერდა ღამით გავლილი ყველა გემის სახელს.
የመብራት ቤቱ ጠባቂ በሌሊት የሚያልፉትን መርከቦች ስም ሁሉ በመዝገብ ጻፈ።
អ្នកយាមប៉មភ្លើងបានកត់ឈ្មោះនាវាទាំងអស់ដែលឆ្លងកាត់នៅពេលយប់។""".split("\n")
CODE = """def attend(q, k, v, *, scale=None):
    \"\"\"softmax(q kᵀ / √d) v\"\"\"
    s = (q @ k.swapaxes(-1, -2)) * (scale or q.shape[-1] ** -0.5)
    return softmax(s, axis=-1) @ v  # [n_heads, n, d]

template <typename T, size_t N = 1u << 12>
struct Ring { T data[N]; size_t head{0}, tail{0}; bool empty() const noexcept { return head == tail; } };
#define MAX(a, b) ((a) > (b) ? (a) : (b))
\tif (err != nil) { return fmt.Errorf("read %q: %w", path, err) }\r
SELECT u.name, COUNT(*) AS n FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.age >= 21 GROUP BY 1;
<div class="card" data-id='42'><a href="https://example.org/?q=a%20b&amp;x=1#top">it's &eacute;</a></div>
{"id": 17, "ok": true, "xs": [1.5e-3, -0.25, null], "s": "line\\nbreak \\u00e9"}
for (int i = 0; i < n; ++i) sum += a[i] * b[i];   /* O(n) */
let xs: Vec<_> = (0..10).map(|x| x.pow(2)).filter(|x| x % 3 == 0).collect();
$ grep -rn --include='*.cc' "TODO\\|FIXME" src/ | sort -t: -k1,1 | uniq -c
0x7fFF_0000 0b1010'1010 1_000_000 3.14159e+00 -1e-9 0755 1e10f 12:34:56.789 2026-11-24T20:33:14Z""".split("\n")
EMOJI = ["🙂", "👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "🇯🇵", "❤️", "1️⃣", "🤷🏿‍♀️", "☃", "♠", "🫠", "🧑🏻‍🚀"]
SPACES = [" ", "  ", "    ", "\t", "\t\t", " \t ", " " * 17, "\u00a0", "\u3000", "\u2003", "\u200b", "\r", "\u0085", "\u2028", "\u180e", "\f"]
CASES = ["", " ", "a", "Hello, world", "it's I'LL we'Re 'ſ 'S", "e\u0301te\u0301 a\u0323\u0307 a\u0307\u0323 한 Å ﬁ क़", "\0\u0001\u0004\u0006\u001d", "\ufeffBOM",
         "\u202eRTL\u202c", "\ue000\U000f0000\U0010fffd", "\u0378\u0530\uffff", "\n\n\n  \n\tx", "1234567890", " 1 22 333", "aaaaaaaaaaaaaaaaaaaaaaaa" * 20, "\u0301\u0301x",
         "x" + "\u0301" * 300, "🙂" * 100, "ſt", "'", "''s", "don't\u2019t", "  leading and trailing  ", "\r\n\r\n", "<tool_call>x</tool_call>", "<|notspecial|>", "a\u3000 b"]


def mixed_text():
    rng = random.Random(20261124)
    rare = [c for c in range(0xA1, 0x20000) if unicodedata.category(chr(c))[0] not in "C" and unicodedata.is_normalized("NFC", "a" + chr(c))]

    def shuffled(sentence):
        words = sentence.split(" ")
        rng.shuffle(words)
        return " ".join(words)

    makers = [
        (8, lambda: rng.choice(SENTENCES)),
        (8, lambda: shuffled(rng.choice(SENTENCES))),
        (6, lambda: rng.choice(CODE)),
        (2, lambda: "    " * rng.randrange(6) + shuffled(rng.choice(CODE))),
        (2, lambda: "".join(rng.choice(EMOJI) for _ in range(rng.randrange(1, 12)))),
        (2, lambda: "".join(rng.choice(SPACES) + rng.choice(["", "a", "Ж", "1", "!", "中"]) for _ in range(rng.randrange(1, 12)))),
        (1, lambda: "".join(rng.choice("0123456789., -") for _ in range(rng.randrange(1, 40)))),
        (1, lambda: "".join(chr(rng.choice(rare)) for _ in range(rng.randrange(1, 20)))),
        (1, lambda: rng.choice("ab-=*#/ é") * rng.randrange(1, 90)),
        (1, lambda: "\n" * rng.randrange(1, 5)),
    ]
    weights = [w for w, _ in makers]
    lines, size = [], 0
    while size < SIZE:
        line = rng.choices(makers, weights)[0][1]()
        line = unicodedata.normalize("NFC", line)
        lines.append(line)
        size += len(line.encode()) + 1
    return unicodedata.normalize("NFC", "\n".join(lines))


def id_hash(ids):
    h = 14695981039346656037
    for i in ids:
        h = (h ^ i) * 1099511628211 % 2**64
    return h


def write(name, value):
    rows = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in value.items())
    (OUT / name).write_text("{\n" + rows + "\n}\n")


def compare_with_peer(name, text, lines, tokenizer):
    import urllib.request
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = str(reference.find_model(name))
    params.n_ctx = 256
    params.port = 0
    server = xllamacpp.Server(params)

    def peer(content):
        body = json.dumps({"content": content, "add_special": False, "parse_special": False}).encode()
        request = urllib.request.Request(server.listening_address + "/tokenize", body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["tokens"]

    different = [line for line in lines if peer(line) != tokenizer.encode(line).ids]
    print(f"{name}: llama.cpp differs on {len(different)} of {len(lines)} lines, whole text {'equal' if peer(text) == tokenizer.encode(text).ids else 'different'}")
    for line in different[:10]:
        print("   ", repr(line)[:200])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    text = mixed_text()
    (OUT / "mixed.txt").write_text(text, newline="")
    lines = text.split("\n")
    for model in MODELS:
        path = reference.find_model(model)
        tokenizer = reference.tokenizer(path)
        whole = tokenizer.encode(text).ids
        write(path.stem + ".json", {
            "sha256": reference.sha256(path),
            "whole": [len(whole), f"{id_hash(whole):016x}"],
            "lines": [[len(ids), id_hash(ids) % 2**32] for ids in (tokenizer.encode(line).ids for line in lines)],
            "cases": [[case, tokenizer.encode(case).ids] for case in CASES],
        })
        print(f"{path.stem}: {len(whole)} ids for {len(text.encode())} bytes")
        if "--peer" in sys.argv and model in MODELS[:2]:
            compare_with_peer(model, text, lines, tokenizer)


if __name__ == "__main__":
    main()
