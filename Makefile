# Thin on purpose: each target is a script that can be run, read and changed by itself.
.PHONY: demo cluster test test-deep test-engines check release bench bench-scale

demo:
	@scripts/demo

cluster:
	@scripts/cluster

test:
	@scripts/test

test-deep:
	@scripts/test-deep

test-engines:
	@scripts/test-engines

check:
	@scripts/check

release:
	@scripts/release

bench:
	@scripts/bench

bench-scale:
	@scripts/bench-scale
