"""What scripts/deploy.py does: deploy a model, look at endpoints, delete one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from dogbreeds.command_schemas import DeployCommandConfig
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.sagemaker.endpoints.account import Account, Ask, asking
from dogbreeds.sagemaker.endpoints.wait import await_end
from dogbreeds.sagemaker.session import connected, opened

log = logging.getLogger(__name__)

ACTIONS = ("deploy", "status", "delete", "list")
#: What `list` says where there are none.
NOTHING = "No endpoint of this project is running."
_NOT_DELETED = ("Creating", "Updating", "Deleting")


def run(config: DeployCommandConfig, ask: Ask = input) -> str:
    """Does what was asked for, and returns what to print.

    Args:
        config: All settings.
        ask: Asks the person at the keyboard.

    Raises:
        UserError: It cannot be done; the message says what is there now.
    """
    if config.action not in ACTIONS:
        raise ConfigError(f"action={config.action}: must be one of {', '.join(ACTIONS)}.")
    if config.action == "list":
        with connected(config.sagemaker) as client:
            return running(Account(client, config.sagemaker))
    if config.endpoint is None:
        raise ConfigError(f"endpoint=null: action={config.action} needs the endpoint's name, endpoint=<name>.")
    if config.action == "deploy":
        return _deploy(config, config.endpoint)
    with connected(config.sagemaker) as client:
        account = Account(client, config.sagemaker)
        if config.action == "status":
            return "\n".join(status_lines(account, account.describe(config.endpoint)))
        return delete(account, config.endpoint, yes=config.yes, ask=ask)


def _deploy(config: DeployCommandConfig, endpoint: str) -> str:
    if config.package is None:
        raise ConfigError("package=null: name what is served, package=<run directory, search or model package>.")
    # These need torch, and no other action does.
    from dogbreeds.package.finding import find_package
    from dogbreeds.sagemaker.endpoints.deployer import Deployer

    package = find_package(config.package)
    with opened(config.sagemaker) as session:
        deployer = Deployer.of(session, config.sagemaker, config.variant, Account(session.client, config.sagemaker))
        return deployer.deploy(package, endpoint)


def status_lines(account: Account, described: Mapping[str, Any]) -> list[str]:
    """Returns what is worth saying of an endpoint, a line each.

    Raises:
        UserError: The service cannot be asked.
    """
    endpoint, variant = described["EndpointName"], account.variant(described)
    lines = [
        f"endpoint {endpoint}, {described['EndpointStatus']}",
        f"on       {_machines(described, variant)}",
        f"serves   {(variant and account.package(variant)) or 'a model of which nothing is known'}",
        f"config   {described.get('EndpointConfigName', 'unknown')}",
        f"age      {_age(described['CreationTime'])}; last changed {_age(described['LastModifiedTime'])} ago",
    ]
    if described.get("FailureReason"):
        lines.append(f"failure  {described['FailureReason']}")
    capture = described.get("DataCaptureConfig")
    if capture and capture.get("EnableCapture"):
        lines.append(f"captures {capture['CurrentSamplingPercentage']}% to {capture['DestinationS3Uri']}")
    if described.get("AsyncInferenceConfig"):
        lines.append(f"answers  in {described['AsyncInferenceConfig']['OutputConfig']['S3OutputPath']}")
    target = account.target(endpoint)
    if target is not None:
        lines.append(f"scales   from {target['MinCapacity']} to {target['MaxCapacity']} instances")
    lines.append(f"delete   {account.command('delete', endpoint)}")
    return lines


def delete(account: Account, endpoint: str, *, yes: bool, ask: Ask) -> str:
    """Removes an endpoint and everything that was made for it; also what a broken deployment has left.

    Args:
        account: Where it is.
        endpoint: Its name.
        yes: Whether the person has agreed already.
        ask: Asks the person.

    Returns:
        What is gone.

    Raises:
        UserError: Nobody agrees, there is nothing, it is not of this project, or the service refuses it.
    """
    described = account.find(endpoint)
    if described is not None:
        account.refuse_foreign(described)
    configs, models = account.parts(endpoint)
    if described is None and not configs and not models:
        account.describe(endpoint)
    if described is not None and described["EndpointStatus"] in _NOT_DELETED:
        raise UserError(
            f"{endpoint} is {described['EndpointStatus']}, and AWS deletes it once that is over. Look again with: "
            f"{account.command('status', endpoint)}"
        )
    what = [f"endpoint configuration {name}" for name in configs] + [f"model {name}" for name in models]
    if described is not None:
        what.insert(0, f"endpoint {endpoint} ({_machines(described, account.variant(described))})")
    _agree(account, endpoint, what, yes=yes, ask=ask)
    removed = ["autoscaling"] if account.stop_scaling(endpoint) else []
    if described is not None:
        with asking("endpoints"):
            account.sagemaker.delete_endpoint(EndpointName=endpoint)
        await_end(account, endpoint)
        removed.append(f"endpoint {endpoint}")
    removed += account.remove_parts(endpoint, kept=None)
    return "\n".join(f"removed  {one}" for one in removed)


def running(account: Account) -> str:
    """Returns a table of all endpoints that this project has made, or a line that says that there are none.

    Raises:
        UserError: The service cannot be asked.
    """
    table = Table("endpoint", "status", "on", "serves", "age", title="What is running, and costs until it is deleted")
    for summary in account.ours():
        described = account.describe(summary["EndpointName"])
        variant = account.variant(described)
        table.add_row(
            described["EndpointName"],
            described["EndpointStatus"],
            _machines(described, variant),
            (variant and account.package(variant)) or "",
            _age(described["CreationTime"]),
        )
    if not table.row_count:
        return NOTHING
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def _agree(account: Account, endpoint: str, what: list[str], *, yes: bool, ask: Ask) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"Nobody can be asked here: {account.command('delete', endpoint)} yes=true")
    listed = "\n".join(f"  {one}" for one in what)
    if ask(f"This removes, for good:\n{listed}\nGo on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was removed.")


def _machines(described: Mapping[str, Any], asked_for: Mapping[str, Any]) -> str:
    variants = described.get("ProductionVariants") or [{}]
    serverless = variants[0].get("CurrentServerlessConfig")
    if serverless:
        return f"no machines of its own (serverless, {serverless['MemorySizeInMB']} MB)"
    return f"{variants[0].get('CurrentInstanceCount', 0)} x {asked_for.get('InstanceType', 'instances')}"


def _age(since: datetime) -> str:
    minutes = int((datetime.now(UTC) - since).total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"
