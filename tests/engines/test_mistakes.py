import sys

import pytest
from monai.transforms import Compose

from overtile.data import image_files
from overtile.engines import explain_mistakes
from overtile.engines.mistakes import own_error

MESSAGE = "no file or folder /no/such"


def raised(function, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what MONAI makes of an error is its own affair
        function(*arguments)
    return caught.value


def in_a_pipeline(function):
    """The function as a step among MONAI's transforms, which wrap its errors in their own."""
    return lambda argument: Compose([function])(argument)


@pytest.fixture
def uncaught(monkeypatch, capsys):
    """What is printed when an error ends the program."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    explain_mistakes()

    def printed(error):
        sys.excepthook(type(error), error, error.__traceback__)
        return capsys.readouterr().err

    return printed


@pytest.mark.parametrize("wrap", [lambda function: function, in_a_pipeline], ids=["bare", "wrapped by MONAI"])
def test_an_error_of_this_package_is_printed_as_its_message_alone(uncaught, wrap):
    printed = uncaught(raised(wrap(image_files), "/no/such"))
    assert printed.strip().startswith(f"FileNotFoundError: {MESSAGE}")
    assert "Traceback" not in printed
    assert len(printed.strip().splitlines()) == 1


def foreign(argument):
    raise ValueError("not of this package")


@pytest.mark.parametrize("wrap", [lambda function: function, in_a_pipeline], ids=["bare", "wrapped by MONAI"])
def test_an_error_from_elsewhere_is_printed_whole(uncaught, wrap):
    error = raised(wrap(foreign), 0)
    assert own_error(error) is None
    printed = uncaught(error)
    assert "Traceback" in printed
    assert "ValueError: not of this package" in printed


def test_an_interruption_by_the_keyboard_is_no_mistake():
    assert own_error(KeyboardInterrupt()) is None
    assert own_error(None) is None
