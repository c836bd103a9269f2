#!/usr/bin/env bash
# Fine-tune a student on LibriSpeech, with wav2vec 2.0's figures for so many labelled hours.
#   recipes/asr/run.sh HOURS STUDENT LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
# HOURS is 1, 10, 100 or 960. STUDENT is a student's or a run's folder, or a teacher for comparison. LIBRISPEECH_ROOT holds
# train-clean-100 (for 960 all three training parts), dev-clean and test-clean; what is missing is fetched into it. 1 and
# 10 hours are that much of train-clean-100, chosen by the hash of the path. dry_run=true says what the run would take.
# Started again with the same OUT_DIR, it goes on where it stopped.
set -euo pipefail
usage="usage: run.sh HOURS STUDENT LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]"
hours=${1:?$usage} student=${2:?$usage} root=${3:?$usage}
out_dir=${4:-runs/asr/librispeech-$hours}
shift $(($# < 4 ? $# : 4))

case $hours in
1 | 10) task=asr_${hours}h parts=train-clean-100 amount=$hours ;;
100) task=asr parts=train-clean-100 amount=null ;;
960) task=asr_960h parts=train-clean-100,train-clean-360,train-other-500 amount=null ;;
*) echo "$usage; HOURS is 1, 10, 100 or 960" >&2 && exit 2 ;;
esac

if [ -e "$out_dir/checkpoints/last.ckpt" ] || [ -e "$out_dir/checkpoints/previous.ckpt" ]; then
    exec python -m speechdistill.finetune "resume=$out_dir" "$@"
fi
exec python -m speechdistill.finetune \
    "task=$task" size=paper \
    "student=$student" \
    data=librispeech "data.root=$root" data.download=true \
    "data.parts=[$parts,dev-clean,test-clean]" "data.hours=$amount" \
    trainer.accumulate=8 `# micro-batches of 200 s of audio for one step; divide by the number of GPUs` \
    trainer.devices=1 \
    trainer.validate_every_steps=1000 \
    "out_dir=$out_dir" "$@"
