"""Every figure in one run: signed requests, the book, a channel, a sandbox, the demo. `make bench`."""

from bench import channel, demo, gate, inference, join, ledger, sandbox, score, synthesis, training, wire


def main() -> None:
    for title, part in (
        ("Signed requests", wire),
        ("A book of a million transfers", ledger),
        ("The gate", gate),
        ("A channel of the demo's join", channel),
        ("A join of 10M by 1M rows", join),
        ("Start of a sandbox", sandbox),
        ("The attack score of synthetic data", score),
        ("Inference through the sealed server", inference),
        ("Synthetic data", synthesis),
        ("Training and inference beside bare", training),
        ("The demo, end to end", demo),
    ):
        print(f"\n== {title}", flush=True)
        part.main()


if __name__ == "__main__":
    main()
