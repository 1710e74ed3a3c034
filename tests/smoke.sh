#!/bin/sh
# Every command once, in an environment that holds the wheel and nothing else: what a user gets.
# usage: tests/smoke.sh PATH/TO/waferline
set -u
waferline=$1
rows=$(cd "$(dirname "$0")/.." && pwd)/src/waferline/evidence/data/complete.csv.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export XDG_CACHE_HOME="$work/cache"
failed=0

expect() { # expect CODE COMMAND...
    code=$1
    shift
    "$waferline" "$@" >out 2>err
    got=$?
    if [ "$got" -ne "$code" ] || grep -q Traceback err; then
        echo "FAILED: waferline $* ended with $got, not $code"
        head -5 err
        failed=$((failed + 1))
    fi
}

cat >sweep.yaml <<'Y'
models: llama-3-8b
machines: [h100, l4]
axes: {prompt: [512, 2048], batch: [1, 8]}
Y
python3 - "$rows" <<'P'
import csv, gzip, sys

with gzip.open(sys.argv[1], "rt", newline="") as file:
    rows = list(csv.DictReader(file))
engines = [r for r in rows if "vllm" in r["engine"].lower() and r["phase"] in ("generate", "decode")]
first = engines[0]
mine = [r for r in engines if (r["engine"], r["engine_version"], r["hardware"]) == (first["engine"], first["engine_version"], first["hardware"])]
with open("rows.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(mine[:30])
P

expect 0
printf 'dtype,m,n,k,latency_ms\nbfloat16,16,4096,4096,0.01\n' >h100_gemm.csv
expect 0 evidence operators h100_gemm.csv
expect 0 evidence lint rows.csv
expect 0 techniques
expect 0 predict llama-3-8b --on h100 --with eagle:tokens=3 --with prefix-cache:hit=0.6
expect 0 plan llama-3-8b --rate 4/s --prompt 512 --output 64 --slo p99-tpot=50ms --on h100
expect 0 plan --on m4-max --memory 64GB
expect 0 solve batch llama-3-8b --on h100 --for 'tpot<=20ms'
expect 0 sensitivity llama-3-8b --on h100
expect 0 fleet h100 --devices 256 --region us-central1 --model llama-3-8b
expect 0 queue --rate 20/s --service 150ms --replicas 4
expect 0 --help
expect 0 predict llama-3-8b --on h100 --precision int4 --batch 1,8
expect 3 predict llama-3-70b --on h100
expect 2 predict llama-3-8b --on h1000
expect 0 predict llama-3-8b --on h100 --load closed --batch 16 --json
expect 0 predict resnet-50 --on a100 --phase train
expect 0 predict llama-3-8b --on wse2 --grid 360x360
expect 0 compare llama-3-8b --on h100,cs3,m2-ultra
expect 0 sweep sweep.yaml --out points.parquet
expect 0 frontier points.parquet --x ttft_s --y throughput_tokens_per_s
expect 0 catalog hardware h100
expect 0 catalog models
expect 0 catalog formats
expect 0 evidence check rows.csv
expect 0 calibrate rows.csv
expect 0 study list
expect 0 study run moe-lens
expect 0 claim check "Llama-7B Q4_K on CS-3: 2400 tokens/s at batch 1"
expect 0 simulate mesh gemm 256x256x256 --grid 8x8
expect 0 simulate serving llama-3-8b --on h100 --rate 8/s --requests 500 --out requests.parquet
expect 2 predict llama-3-8b --on h100 --plot why.html
expect 0 measure operator gemv 256x512 --threads 1 --on h100
expect 4 measure resident
expect 0 measure show
expect 0 measure export --output kept.csv
expect 2 generate nothing.gguf hello
[ "$failed" -eq 0 ] && echo "every command ran in an environment of the wheel alone"
exit "$failed"
