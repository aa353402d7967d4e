"""What can go wrong in a report."""


class ReportError(ValueError):
    """What keeps a report from being made, in one line that names the file and what is wrong."""
