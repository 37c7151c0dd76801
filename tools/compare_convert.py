#!/usr/bin/env python3
"""Converts models both ways and has transformers and llama.cpp (xllamacpp) go on with the same text.

  python3 tools/compare_convert.py build/fovea [smollm2-135m | MODEL.gguf | FOLDER ...]

A GGUF file becomes a folder, which transformers loads in float32; a folder becomes a GGUF file, which llama.cpp loads.
Each must answer greedily as Fovea does with the model that it was made of, and the tokens of the prompt must be the
same. What is not installed is left out, and said. Without models: the tiny folder of tests/data and smollm2-135m.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROMPT = "The capital of France is"
N_TOKENS = 24
TINY = Path(__file__).resolve().parent.parent / "tests/data/tiny-llama-hf"


def run(*args):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


def fovea_answer(program, model):
    out = json.loads(run(program, "run", "-m", model, PROMPT, "--raw", "--temp", "0", "-n", N_TOKENS, "--ignore-eos",
                         "--numerics", "exact", "--json", "-q"))
    return out["text"]


def transformers_answer(folder):
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as missing:
        return None, f"transformers: {missing}"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        # As --ignore-eos does it: no token that ends a text is chosen.
        out = model.generate(ids, max_new_tokens=N_TOKENS, do_sample=False, suppress_tokens=tokenizer.all_special_ids)
    return tokenizer.decode(out[0, ids.shape[1]:], clean_up_tokenization_spaces=False), ""


def llama_answer(file):
    try:
        import xllamacpp
    except ImportError as missing:
        return None, f"xllamacpp: {missing}"
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
    server = xllamacpp.Server(params)
    answer = server.handle_completions({"prompt": PROMPT, "n_predict": N_TOKENS, "temperature": 0.0, "top_k": 1,
                                        "ignore_eos": True, "stream": False})
    return answer["choices"][0]["text"] if "choices" in answer else answer["content"], ""


def main():
    program, models = sys.argv[1], sys.argv[2:] or [str(TINY), "smollm2-135m"]
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for number, model in enumerate(models):
            is_folder = Path(model).is_dir()
            file, folder = Path(scratch, f"{number}.gguf"), Path(scratch, f"{number}")
            run(program, "convert", model, file if is_folder else folder, "-q")
            # And back: both readers see both forms.
            run(program, "convert", file if is_folder else folder, folder if is_folder else file, "-q")
            want = fovea_answer(program, model)
            for name, (found, why) in {"fovea, folder": (fovea_answer(program, folder), ""),
                                       "fovea, GGUF": (fovea_answer(program, file), ""),
                                       "transformers, folder": transformers_answer(folder),
                                       "llama.cpp, GGUF": llama_answer(file)}.items():
                same = found is None or found == want
                failed = failed or not same
                print(f"{model}: {name}: {'left out, ' + why if found is None else 'same' if same else 'OTHER'}")
                if not same:
                    print(f"  wanted {want!r}\n  found  {found!r}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
