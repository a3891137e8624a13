"""All commands of `kdet`; importing this file imports no torch."""

import typer

from kdet.cli import (
    check,
    compare,
    data,
    demo,
    evaluate,
    export,
    label,
    listing,
    predict,
    report,
    search,
    speed,
    train,
)

app = typer.Typer(
    name="kdet",
    help="Distil any object detector into a smaller one, and prove that it helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("distill")(train.distill)
app.command("check")(check.check)
app.command("compare")(compare.compare)
app.command("search")(search.search)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("label")(label.label)
app.command("export")(export.export)
app.command("speed")(speed.speed)
app.command("report")(report.report)
app.command("list")(listing.list_names)
app.add_typer(data.app, name="data")
