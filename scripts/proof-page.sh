#!/usr/bin/env bash
# Writes docs/PROOF.md from docs/proof.tsv, the list of what was really played.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  cat <<'TOP'
# Proof

What `make proof` has really played, written by it from [proof.tsv](proof.tsv), which has a line for each part of each run. What
each line means is in [TESTING](TESTING.md). Of days and of inputs by chance all are counted, but not as played those of a block in
which one failed, for they are played again; of the rest, the last run.

| what | played | failed | asked for | minutes | last played | commit |
|---|---|---|---|---|---|---|
TOP
  awk -F'\t' '
    BEGIN {
      asked["points"] = "all"; asked["double points"] = "10,000"; asked["days"] = "100,000"; asked["views"] = "all"
      asked["planted bugs to be found"] = "all (30)"; asked["real plans"] = "60 and more"; asked["model steps"] = "1,000,000"
      asked["kills on sqlite"] = asked["kills on postgres"] = "1,000"; asked["track record"] = "all"
    }
    function adds(what) { return what == "days" || what ~ /^inputs/ }
    $4 == "tests of days" || $4 == "tests of fuzz" { next }
    {
      if (!adds($4) && last[$4] != $1) { n[$4] = f[$4] = m[$4] = 0 }
      if (adds($4)) { if ($6 == 0) n[$4] += $5; f[$4] += $6; m[$4] += $3 } else { n[$4] = $5; f[$4] = $6; m[$4] = $3 }
      last[$4] = $1; on[$4] = $2
    }
    END { for (w in n) printf "| %s | %d | %d | %s | %d | %s | %s |\n", w, n[w], f[w], asked[w], m[w], substr(last[w], 1, 10), on[w] }
  ' docs/proof.tsv | sort
  echo
  echo '## What found the planted bugs'
  echo
  if [[ -e target/proof/planted.log ]]; then
    sed -n 's/^.*\b\([A-Z][A-Za-z]*\): in \([a-z-]*\), after \([0-9]*\|[0-9]* further\) faults: \(.*\)/- **\1**, in `\2` after \3 faults: \4/p' \
      target/proof/planted.log
  else
    sed -n '/^- \*\*/p' docs/PROOF.md
  fi
} >target/PROOF.md
mv target/PROOF.md docs/PROOF.md
