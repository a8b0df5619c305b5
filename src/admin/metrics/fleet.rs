//! The fleet as this member sees it, in the Prometheus text; nothing where it is in none.

use super::truth;
use crate::control::FleetView;
use crate::telemetry::prometheus::Exposition;

pub(super) fn show(view: Option<&FleetView>, out: &mut Exposition) {
    let Some(view) = view else { return };
    let mut roles = out.gauge(
        "serin_fleet_role",
        "1 for what this member does in the fleet: it leads, follows, or is alone because it is cut off.",
    );
    for role in ["leads", "follows", "alone"] {
        roles.sample(&[("role", role)], truth(view.role == role));
    }
    out.gauge("serin_fleet_led", "1 while somebody leads the fleet.")
        .sample(&[], truth(view.leader.is_some()));
    out.gauge(
        "serin_fleet_term",
        "Fencing number of whoever leads; grows with each leader.",
    )
    .sample(&[], view.term as f64);
    out.gauge(
        "serin_fleet_members",
        "Members that say something of themselves, this one among them.",
    )
    .sample(&[], view.count as f64);
    out.gauge(
        "serin_fleet_may_lead",
        "0 while this member's version or plans differ from those of most members.",
    )
    .sample(&[], truth(view.may_lead));
    out.counter(
        "serin_fleet_isolated_seconds_total",
        "Time in which this member was cut off from the fleet.",
    )
    .sample(&[], view.isolated_s);
    let me = view.members.iter().find(|member| member.name == view.name);
    let mut applied = out.gauge(
        "serin_fleet_applied_epoch",
        "Number of the split that is in force here; the same on every member once it has reached all.",
    );
    for (rollout, split) in me.iter().flat_map(|me| &me.says.applied) {
        applied.sample(&[("rollout", rollout)], split.epoch as f64);
    }
    let mut lost = out.counter(
        "serin_fleet_lost_messages_total",
        "Messages of this member, one a second, that never reached the fleet: they found no room while it was cut off.",
    );
    for rollout in view.heard.keys() {
        let count = me.and_then(|me| me.says.lost.get(rollout).copied());
        lost.count(&[("rollout", rollout)], count.unwrap_or(0));
    }
    let mut heard = out.gauge(
        "serin_fleet_heard",
        "Members whose seconds are in the figures of a rollout, by themselves or by the word of their region.",
    );
    for (rollout, &members) in &view.heard_members {
        heard.sample(&[("rollout", rollout)], members as f64);
    }
}
