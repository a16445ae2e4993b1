"""The commented study file that ``maple init`` writes."""

COMMENTED_STUDY = """\
# A Maple study: every factor below is crossed with every other.
# `maple plan` shows the cells, `maple run` trains and scores them, `maple report` reads them.
name: my-study
description: Does a higher rank help Swahili and Thai?

# Where data comes from: hub, atlas (the embedded world), or a directory of release files.
data: hub

# Base models: Hub repositories, local directories, atlas-base or atlas-qwen.
models: [Qwen/Qwen2.5-0.5B]

# Methods; a list of values crosses. `none` is the untouched base, the zero of every comparison.
methods:
  - none
  - lora: {rank: [8, 64], alpha: 16, dropout: 0.05, targets: all-linear}

# Bits of the frozen base: nf4 (4), int8 (8), bf16 (16), fp32.
quantization: [bf16, nf4]

# Instruction data. The weight multiplies the rows taken from each data set per epoch.
mixtures:
  generated: {multialpaca: 1.0}
  translated: {bactrian-x: {weight: 1.0, languages: [sw, th, vi, id]}}

# Bactrian-X's recipe; the MAPLE paper states none.
training:
  learning_rate: 3.0e-4
  epochs: 1
  batch_size: 128
  max_length: 768
  warmup_steps: 20
  template: bactrian-x      # or alpaca, chat, plain
  # scheduler: cosine       # or linear, constant, wsd (with decay_share: 0.2)
  # optimizer: adamw        # or adamw-8bit, paged-adamw, paged-adamw-8bit, adafactor, sgd
  # adam_betas: [0.9, 0.999]
  # adam_eps: 1.0e-8
  # momentum: 0.9           # of sgd
  # average_last: 10        # save the mean of the parameters after the last 10 steps
  # Held out of the mixture, never a benchmark: a checkpoint chosen by test items is a leak.
  # validation: {languages: [sw, th], examples: 100, every: 50, patience: 3, keep: best}

# Several seeds tell an effect from luck.
seeds: [0, 1, 2]

evaluate:
  tasks: [xnli, xcopa, xquad]
  languages: [sw, th, vi, tr]   # or all
  english: [xnli, xquad]        # what tuning costs in English
  prompt: {form: mega, instruction_language: english}
  limit: 500                    # samples per task and language; leave out for whole splits
"""
