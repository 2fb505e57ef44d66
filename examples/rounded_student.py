"""Make a student with room to improve: the bundled GPT-2 student with its attention weights rounded to three levels.

    python examples/rounded_student.py OUTPUT_DIR [MODEL]

Every column of an attention matrix keeps -a, 0 or a, where a is its largest absolute weight (2-bit rounding to nearest).
The folder is a plain Hugging Face one.
"""

from __future__ import annotations

import sys

import torch

import circuitkd as ck


def main(output_dir: str, name: str = "zoo:gpt2-student") -> None:
    student = ck.load(name)
    with torch.no_grad():
        for parameter_name, weight in student.hf.named_parameters():
            if ".attn." in parameter_name and weight.ndim == 2:
                scale = weight.abs().amax(0, keepdim=True)
                weight.copy_((weight / scale).round() * scale)
    student.hf.save_pretrained(output_dir)
    student.tokenizer.save_pretrained(output_dir)
    print(f"{name} with rounded attention weights is in {output_dir}")


if __name__ == "__main__":
    main(*sys.argv[1:])
