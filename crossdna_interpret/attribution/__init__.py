"""Attribution: mutagenesis, scans, pairs of mutations and gradients."""
