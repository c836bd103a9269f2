#!/usr/bin/env bash
# The tables of RESULTS.md: demo students of three seeds, a longer one, real speech, and the speed of inference.
#   recipes/fithubert/measure.sh OUT_DIR [SPEECH_DIR]
# SPEECH_DIR, if given, holds wakewords/ with wakewords.csv and digits/ with digits.csv: path,keyword,split (train, dev,
# test) and path,digit,speaker. What is there already is not trained again.
set -euo pipefail
out=${1:?usage: measure.sh OUT_DIR [SPEECH_DIR]}
speech=${2:-}
mkdir -p "$out"

# Steps and audio of FitHuBERT's demo. A DistilHuBERT of two layers of 144 has its size: 804,896 parameters, FitHuBERT's
# are 811,192. Both start from random weights.
here=$(cd "$(dirname "$0")" && pwd)
of_demo() { sed -n "s/^  $1: *\([0-9]*\).*/\1/p" "$here/../../configs/size/fithubert/small.yaml"; }
steps=$(of_demo max_steps) seconds=$(of_demo batch_seconds) utterances=$(of_demo max_utterances)
fit=(recipe=fithubert)
same_size=(recipe=distilhubert architecture.hidden_size=144 architecture.intermediate_size=576 student.init_from=null)
sizes=("trainer.max_steps=$steps" "data.batch_seconds=$seconds" "data.max_utterances=$utterances")

train() { # OUT_DIR KEY=VALUE ...
    [ -e "$1/summary.json" ] || python -m speechdistill.train "out_dir=$1" "${@:2}"
}

probe() { # NAME KEY=VALUE ...
    python -m speechdistill.probe "${@:2}" "out=$out/$1.json" | tee "$out/$1.md"
}

for seed in 0 1 2; do
    train "$out/demo/fithubert-$seed" "${fit[@]}" "seed=$seed"
    train "$out/demo/distilhubert-$seed" "${same_size[@]}" "${sizes[@]}" "seed=$seed"
done
probe phone-fithubert student="$out"/demo/fithubert-{0,1,2} data=demo
probe phone-distilhubert student="$out"/demo/distilhubert-{0,1,2} data=demo

# Longer: four times the demo's steps.
train "$out/long/fithubert" "${fit[@]}" "trainer.max_steps=$((4 * steps))"
probe phone-long student="$out/long/fithubert" data=demo

if [ -n "$speech" ]; then
    speech=$(cd "$speech" && pwd)
    real=(size=paper data=folder "data.root=$speech/wakewords" "${sizes[@]:1}" trainer.max_steps=1500 data.max_seconds=4
        trainer.gradient_clip=5
        architecture.hidden_dropout=0 architecture.attention_dropout=0
        architecture.activation_dropout=0 architecture.feat_proj_dropout=0)
    train "$out/wakewords/fithubert-0" "${fit[@]}" "${real[@]}" optim.lr=3.0e-3
    train "$out/wakewords/distilhubert-0" "${same_size[@]}" "${real[@]}" optim.lr=2.0e-3
    # What the table calls dev is what chooses the layer, val to the probe; paths become absolute.
    sed "1!{s/,dev,/,val,/;s#^#$speech/#}" "$speech/wakewords.csv" > "$out/wakewords.csv"
    for recipe in fithubert distilhubert; do
        probe "digit-$recipe" "student=$out/wakewords/$recipe-0" "table=$speech/digits.csv" label=digit group=speaker
        probe "keyword-$recipe" "student=$out/wakewords/$recipe-0" "table=$out/wakewords.csv" label=keyword
    done
fi
python "$here/../../benchmarks/frame_pairs.py" | tee "$out/phone-pairs.md"
python "$here/../../benchmarks/inference.py" | tee "$out/inference.md"
