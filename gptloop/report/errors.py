"""What can go wrong in a report."""


class ReportError(ValueError):
    """What keeps a report from being made, in one line that names the file and what is wrong."""


class NotOursError(ReportError):
    """A file that is whole and readable, and none of those that a report is made of."""


class OtherSchemaError(NotOursError):
    """A run of gptloop's suite in a form of another version, which this report does not read."""
