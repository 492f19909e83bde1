"""The command `darkness`, which the harness finds as `darkness_command`."""

import click

from harness.cli import options

LIGHTS = (1.0, 0.7, 0.5, 0.3, 0.1)


@click.command(
    "darkness",
    cls=options.CommandWithExample,
    example="darkness runs/new.safetensors",
    help="Print a model's accuracy on the test images in less and less light.",
)
@click.argument("checkpoint", type=options.MODEL, metavar="CHECKPOINT")
@options.model_options
@options.json_option
def darkness_command(checkpoint, *, as_json):
    """Print the accuracies."""
    from harness.measures import accuracy
    from stress_darkness.measures import Darkened

    settings = options.project_with(as_json=as_json).request
    images = settings.images()
    model = settings.open(checkpoint, images)
    accuracies = {light: accuracy(model.predict(images, Darkened(light))).value for light in LIGHTS}
    lines = [f"{light:4.0%} of the light: {value:.1%}" for light, value in accuracies.items()]
    options.say({"accuracy": accuracies}, lines, as_json=as_json)
    return options.OK
