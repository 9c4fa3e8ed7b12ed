"""Turn a pre-training run into an embedded model: fp16 weights, tokenizer, card, and the facts of its making.

`python benchmarks/embed.py RUN bert-mini-es-en` (or `gpt-mini-es-en`); the weights enter the package only when they are clearly better
than the last ones, because every version stays in the history.
"""

import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import record
import torch

from afina.models.load import load, load_tokenizer
from afina.train.track import read

# What of an embedded model's making its last run does not tell.
HISTORY = {
    "gpt-mini-es-en": "; of the first 10.5 million the blanks and line ends between sentences were missing"
}
FACTS = {"languages": ["es", "en"], "license": "apache-2.0"}
ENCODER = """---
language: [es, en]
license: apache-2.0
library_name: transformers
pipeline_tag: fill-mask
tags: [afina, bert]
---
# afina/bert-mini-es-en

A bilingual BERT-mini (Devlin et al. 2019; shape of Turc et al. 2019: 4 layers, width 256, 4 heads, {vocabulary:,} cased
WordPiece tokens, 512 positions), Spanish and English, small enough to ship inside a package. Stored in fp16.

**What it is for.** A start for fine-tuning on a laptop without network. It has seen little text: expect it to be well
below a BERT-base, and compare it with TF-IDF (afina always does).

**Text.** {megabytes:.0f} MB: Spanish parliament sittings, technical documentation, textbooks and novels; English
Wikipedia, novels, reviews and dialogues. Documents sharing a 13-gram of words with an evaluation set were taken out
(`benchmarks/results/pretrain-text.json`). Licences of the sources: public domain, CC BY, CC BY-SA, CC0 and Apache-2.0;
the dialogues and a part of the encyclopedia are CC BY-SA.

**Making.** Masked words (15 %, 80/10/10, drawn anew each epoch), next sentences (weight 0.1) and, from [CLS], the bag of
words of the row (weight 1; `docs/decisions/0012-bag-of-words.md`); word vectors counted from the text as a start
(positive pointwise mutual information); {tokens:,} tokens seen in {hours:.1f} hours on two CPU cores or one (bf16 matrix
products); nine tenths in rows of 128 tokens, of which the later ones begin at any position
(`docs/decisions/0019-short-rows-begin-anywhere.md`), the rest in rows of 512. Held-out loss {mlm:.2f} a hidden word
(accuracy {mlm_accuracy:.1%}), {mlm_long:.2f} in rows of 512 tokens; next sentence {nsp:.2f} ({nsp_accuracy:.1%}).

**Limits.** What it brings beside random weights and beside TF-IDF is measured in `benchmarks/results/classification-*.json`:
where TF-IDF wins, use that.
Parliament, documentation and novels weigh heavily; there is no news and hardly any informal Spanish. Texts
of living persons' public speeches are part of the training text. It repeats the biases of its sources.
"""

DECODER = """---
language: [es, en]
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [afina, llama]
---
# afina/gpt-mini-es-en

A bilingual decoder of the Llama shape (Touvron et al. 2023; {layers} layers, width 256, 4 heads, {weights:.1f} million
weights, {vocabulary:,} byte-level tokens, 1,024 positions), Spanish and English, small enough to ship inside a package.
Stored in fp16. The tokenizer brings a chat template with a sign of its own for each speaker.

**What it is for.** To learn and to try out: causal language modelling, chat, what a decoder does inside. It writes
sentences that look like Spanish or English and mean little. It knows nothing, follows no instruction unless it is
fine-tuned to, and is far too small for in-context learning.

**Text.** {megabytes:.0f} MB: Spanish parliament sittings, technical documentation, textbooks and novels; English
Wikipedia, novels, reviews and dialogues. Documents sharing a 13-gram of words with an evaluation set were taken out
(`benchmarks/results/pretrain-text.json`). Licences of the sources: public domain, CC BY, CC BY-SA, CC0 and Apache-2.0;
the dialogues and a part of the encyclopedia are CC BY-SA.

**Making.** `afina pretrain --objective clm`: the next token, word vectors counted from the text as a start;
{tokens:,} tokens seen in {hours:.1f} hours on one CPU core (bf16 matrix products); rows of 128 tokens, about the last tenth
of 512{history}. Held-out loss {clm:.2f} a
token (perplexity {perplexity:.0f}), {clm_long:.2f} in rows of 512.

**Limits.** It repeats the biases of its sources: parliament, documentation and novels weigh heavily; there is no news and
hardly any informal Spanish. Texts of living persons' public speeches are part of the training text.
"""


def main(run: Path, name: str) -> None:
    """Write the embedded model `name` from the run's best weights."""
    folder = record.EMBEDDED / name
    before = _before(run)
    result = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    causal = tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))["objective"] == "clm"
    head = "AutoModelForCausalLM" if causal else "AutoModelForPreTraining"
    model, tokenizer = load(run / "best", head), load_tokenizer(run / "best")
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.to(torch.float16).save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    scores = {name: score["value"] for name, score in result["scores"]["validation"].items()}
    steps = [line for line in read(run / "steps.jsonl") if "loss" in line]
    curve = [line for line in read(run / "steps.jsonl") if "validation" in line]
    text = json.loads((record.RESULTS / "pretrain-text.json").read_text(encoding="utf-8"))
    about = FACTS | {
        "tokens_seen": result["tokens_seen"] + before["tokens_seen"],
        "hours": round(sum(step["seconds"] for step in steps) / 3600 + before["hours"], 2),
        "steps": len(steps) + before["steps"],
        "held_out": scores,
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    megabytes = sum(source["bytes"] for source in text["text"]["sources"].values()) / 1e6
    card = (DECODER if causal else ENCODER).format(
        vocabulary=len(tokenizer),
        megabytes=megabytes,
        tokens=about["tokens_seen"],
        hours=about["hours"],
        layers=model.config.num_hidden_layers,
        weights=sum(weight.numel() for weight in model.parameters()) / 1e6,
        history=HISTORY.get(name, "") if before["tokens_seen"] else "",
        **scores,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    record.save(
        f"pretrain-{name}",
        record.about(f"afina pretrain (settings below); python benchmarks/embed.py RUN {name}")
        | {
            "settings": _settings(run),
            "before": before,
            "result": about,
            "losses": result["losses"],
            "tokens_per_s": result["tokens_per_s"],
            "curve": curve,
        },
    )
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    print(f"{folder}: {size:.2f} MB")


def _settings(run: Path) -> dict[str, Any]:
    """Return the settings of the run without the place where it lies."""
    found = tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))
    found["recorded"].pop("folder", None)
    return found


def _before(run: Path) -> dict[str, Any]:
    """Return what the model had seen that the run went on from; nothing for a new one."""
    settings = tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))
    if not settings.get("model"):
        return {"tokens_seen": 0, "hours": 0.0, "steps": 0}
    about = record.EMBEDDED / settings["model"].removeprefix("afina/") / "about.json"
    return json.loads(about.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
