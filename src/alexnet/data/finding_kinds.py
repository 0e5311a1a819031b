"""The kinds of findings about a data set, which `alexnet check --ignore` names; no NumPy, so that help stays fast."""

KINDS = ("emptied_class", "copies_across_splits", "copies_across_classes", "groups_across_splits",
         "near_copies_across_splits", "divided_names", "single_groups", "no_group", "broken",
         "near_copies_across_classes", "one_class_measured", "unmeasured_classes", "suspicious_labels", "few_images",
         "imbalance", "few_images_in_all", "leftover_bytes", "unused_bits", "further_images", "small_images",
         "elongated", "blank", "uncertain_labels", "copies", "near_copies")
"""The most harmful first. Broken images follow those that make the error look too good: they are left out anyway."""
