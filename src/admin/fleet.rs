//! `GET /api/fleet`: who is in the fleet, who leads, and what is in force where. Of a serin that is in none: `null`.

use axum::Json;
use axum::extract::State;

use super::routes::App;
use super::wire::{FleetAnswer, FleetMember};
use crate::control::FleetView;

pub(super) async fn show(State(app): State<App>) -> Json<Option<FleetAnswer>> {
    Json(app.control.fleet().map(|view| answer(&view)))
}

fn answer(view: &FleetView) -> FleetAnswer {
    let members = view.members.iter().map(|member| FleetMember {
        name: member.name.clone(),
        leads: view.leader.as_ref() == Some(&member.name),
        agrees: member.agrees,
        says: member.says.clone(),
    });
    FleetAnswer {
        name: view.name.clone(),
        region: view.region.clone(),
        role: view.role.to_owned(),
        why: view.why.clone(),
        alone_s: view.alone_s,
        isolated_s: view.isolated_s,
        leader: view.leader.clone(),
        term: view.term,
        may_lead: view.may_lead,
        count: view.count,
        members: members.collect(),
        heard: view.heard.clone(),
        regions: view.regions.clone(),
        adds_up: view.adds_up,
    }
}
