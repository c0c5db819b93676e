"""The actions of scripts/deploy.py: deploy a model, show endpoints, delete one."""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from dogbreeds.command_schemas import DeployCommandConfig
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import lines_beside
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.endpoints.account import Ask, Endpoints, wait_until_deleted
from dogbreeds.sagemaker.endpoints.autoscaling import plan_scaling, restore_scaling
from dogbreeds.sagemaker.following import Followed
from dogbreeds.sagemaker.session import connected

log = logging.getLogger(__name__)

#: Printed by `list` where there are no endpoints.
NOTHING = "No endpoint of this project is running."
_NOT_DELETABLE = ("Creating", "Updating", "SystemUpdating")


def run(config: DeployCommandConfig, ask: Ask = input) -> str:
    """Runs an action, and returns what to print.

    Raises:
        UserError: It failed; the message says what exists now.
    """
    if config.action != "list" and config.endpoint is None:
        raise ConfigError(f"endpoint=null: action={config.action} needs a name, endpoint=<name>.")
    if config.action == "deploy" and config.package is None:
        raise ConfigError("package=null: set package=<run directory, search or model package>.")
    with connected(config.sagemaker) as account:
        endpoints = Endpoints(account)
        if config.action == "list" or config.endpoint is None:
            return running(endpoints)
        if config.action == "status":
            described = endpoints.describe(config.endpoint)
            restore_scaling(account, described)
            return "\n".join(status_lines(endpoints, described))
        if config.action == "delete":
            return delete(endpoints, config.endpoint, yes=config.yes, ask=ask)
        # These need torch, and no other action does.
        from dogbreeds.package.finding import find_package
        from dogbreeds.sagemaker.endpoints.deployer import Deployer

        package = find_package(str(config.package))
        return Deployer.of(account, config.variant).deploy(package, config.endpoint)


def status_lines(endpoints: Endpoints, described: Mapping[str, Any]) -> list[str]:
    found = {"endpoints": endpoints, "described": described, "variant": endpoints.variant(described)}
    return lines_beside(__file__, "status.txt", **found, instances=_instances, age=_age)


def delete(endpoints: Endpoints, endpoint: str, *, yes: bool, ask: Ask) -> str:
    """Removes an endpoint and everything that was created for it, also the rest of a broken deployment.

    Returns what was removed.
    """
    described = endpoints.find(endpoint)
    if described is not None:
        endpoints.refuse_foreign(described)
    configs, models = endpoints.parts(endpoint)
    if described is None and not configs and not models:
        endpoints.describe(endpoint)
    if described is not None and described["EndpointStatus"] in _NOT_DELETABLE:
        said = f"{endpoint} is {described['EndpointStatus']}: AWS can delete it when that is done."
        raise UserError(f"{said} See its status: {endpoints.command('status', endpoint)}")
    what = [f"endpoint configuration {name}" for name in configs] + [f"model {name}" for name in models]
    if described is not None:
        what.insert(0, f"endpoint {endpoint} ({_instances(described, endpoints.variant(described))})")
    again = endpoints.command("delete", endpoint)
    if not yes:
        confirm("This permanently deletes", what, again, ask)
    removed = ["autoscaling"] if endpoints.stop_scaling(endpoint) else []
    if described is not None:
        if described["EndpointStatus"] != "Deleting":
            with aws_errors(f"delete {endpoint}"):
                endpoints.account.sagemaker.delete_endpoint(EndpointName=endpoint)
        followed = Followed(endpoints.account, "The deletion", again)
        with followed.explained():
            wait_until_deleted(endpoints, endpoint, followed)
        removed.append(f"endpoint {endpoint}")
    plan_scaling(endpoints.account, endpoint, "", None, None)
    removed += endpoints.remove_parts(endpoint, kept=None)
    return "\n".join(f"removed  {one}" for one in removed)


def running(endpoints: Endpoints) -> str:
    """Returns a table of all endpoints of this project, or a line that says that there are none."""
    title = "Running endpoints (they cost until they are deleted)"
    table = Table("endpoint", "status", "on", "serves", "age", title=title)
    for summary in endpoints.ours():
        described = endpoints.describe(summary["EndpointName"])
        name, status, variant = described["EndpointName"], described["EndpointStatus"], endpoints.variant(described)
        serves, age = endpoints.package(variant) or "", _age(described["CreationTime"])
        table.add_row(name, status, _instances(described, variant), serves, age)
    if not table.row_count:
        return NOTHING
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def confirm(question: str, what: list[str], command: str, ask: Ask) -> None:
    """Returns if the person agrees to what is listed; `command` does it without asking, with yes=true."""
    if not sys.stdin.isatty():
        raise UserError(f"Not a terminal, so this cannot be confirmed; add yes=true: {command} yes=true")
    listed = "\n".join(f"  {one}" for one in what)
    if ask(f"{question}:\n{listed}\nContinue? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was changed.")


def _instances(described: Mapping[str, Any], asked_for: Mapping[str, Any]) -> str:
    variants = described.get("ProductionVariants") or [{}]
    if serverless := variants[0].get("CurrentServerlessConfig"):
        return f"serverless, {serverless['MemorySizeInMB']} MB"
    return f"{variants[0].get('CurrentInstanceCount', 0)} x {asked_for.get('InstanceType', 'instances')}"


def _age(since: datetime) -> str:
    minutes = int((datetime.now(UTC) - since).total_seconds() // 60)
    hours = minutes // 60
    return f"{minutes} min" if not hours else f"{hours} h" if hours < 48 else f"{hours // 24} days"
