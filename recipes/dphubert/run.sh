#!/usr/bin/env bash
# The paper's runs: DPHuBERT of HuBERT Base, or DPWavLM of WavLM Base+, from LibriSpeech 960 h.
#   recipes/dphubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
#   RECIPE=dpwavlm recipes/dphubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
# LIBRISPEECH_ROOT holds train-clean-100, train-clean-360, train-other-500 and dev-clean (https://www.openslr.org/12);
# what is missing is fetched into it. dry_run=true says what the run would take, and stops.
# Started again with the same OUT_DIR, it resumes where it stopped.
set -euo pipefail
root=${1:?usage: run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]}
recipe=${RECIPE:-dphubert}
case $recipe in
dphubert) teacher=hubert_base ;;
dpwavlm) teacher=wavlm_base_plus ;;
*) echo "RECIPE=$recipe: dphubert or dpwavlm" >&2 && exit 2 ;;
esac
out_dir=${2:-runs/$recipe/librispeech-960}
shift $(($# < 2 ? $# : 2))

if [ -e "$out_dir/checkpoints/last.ckpt" ] || [ -e "$out_dir/checkpoints/previous.ckpt" ]; then
    exec python -m speechdistill.train "resume=$out_dir" "$@"
fi
exec python -m speechdistill.train \
    "recipe=$recipe" size=paper \
    "teacher=$teacher" `# pin a revision with teacher.name=ID@COMMIT` \
    data=librispeech "data.root=$root" data.download=true \
    compression.target_params=0.25 `# of the student's parameters before pruning` \
    trainer.max_steps=75000 `# optimizer steps: 50,000 of pruning and distillation, 25,000 of distillation` \
    data.batch_seconds=160 `# audio in a micro-batch, as on each of the paper's four GPUs` \
    trainer.accumulate=4 `# micro-batches for one step` \
    trainer.devices=1 \
    trainer.checkpoint_every_steps=1000 \
    trainer.validate_every_steps=5000 \
    "out_dir=$out_dir" "$@"
