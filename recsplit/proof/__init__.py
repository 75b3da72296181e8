"""The proof that the parts answer as the source did: inputs to try, answers, comparisons; before a build is published and after."""
