"""`finwidth solve`: the theory's prediction."""

from ._app import app
from ._options import Hidden, Problem, Report, options
from ._output import Folder, print_json, print_table, write_json
from ._records import setting_record, solution_record
from ._run import solve_theory

__all__ = ["solve"]


@app.command()
@options()
def solve(problem: Problem, hidden: Hidden, report: Report) -> None:
    """Solve a theory: order parameters, evidence, test error.

    With --out, DIR/solve.json holds what --json prints.
    """
    folder = None if report.out is None else Folder(report.out)
    network, data = problem.network(hidden.width), problem.dataset()
    solution = solve_theory(problem, network, data)
    record = setting_record(network, problem.temperature, data) | solution_record(solution, data)
    if folder is not None:
        write_json(record, folder.file("solve.json"))
    if report.json:
        print_json(record)
        return
    order = record["order_parameters"]
    rows = [
        (f"{symbol} layer {layer}", f"{value:.6f}")
        for name, symbol in (("q_bar", "Q̄"), ("q", "Q"))
        for layer, value in enumerate(order[name], start=1)
    ]
    rows += [
        ("action", f"{solution.action:.6f}"),
        ("log evidence", f"{solution.log_evidence:.6f}"),
        ("residual", f"{solution.residual:.1e}"),
        ("criterion", f"{solution.criterion:.6f}"),
        ("test error", f"{record['error']:.6f}"),
        ("bias²", f"{record['bias2']:.6f}"),
        ("variance", f"{record['variance']:.6f}"),
    ]
    print_table(
        f"{problem.theory} theory, {data.name}, widths {list(network.widths)}, "
        f"T = {problem.temperature:g}",
        ("", "value"),
        rows,
    )
