"""What Fathom says to the person at the keyboard when something cannot be done.

Every error that a user can cause or mend is a `FathomError`: one sentence that says what was wrong, which value, and
what would be right. The command line prints it without a traceback and exits with its code.
"""


class FathomError(Exception):
    """Bad input: a file, a value or a combination that cannot be used. Exit code 2, as for a usage error."""

    exit_code = 2


class RunFailed(FathomError):
    """The input was fine and the work failed all the same: a diverged loss, a full disk, a check not met."""

    exit_code = 1


class MissingExtra(FathomError):
    """A verb needs packages that the light core does not install."""

    exit_code = 3

    def __init__(self, package: str, extra: str = "train") -> None:
        super().__init__(
            f"this needs the package '{package}', which is not installed; add it with: "
            f"pip install 'fathom-lm[{extra}]' (in a clone: pip install '.[{extra}]')"
        )
