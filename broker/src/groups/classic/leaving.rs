//! LeaveGroup: members that go by themselves, and those whom an admin takes out.

use millstream_protocol::messages::LeaveGroupResponse;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::leave_group_response::MemberResponse;
use millstream_protocol::{ErrorCode, KStr};

use super::ClassicGroup;
use crate::groups::cause::{Cause, Why};
use crate::groups::turn::{Ticket, Turn};

impl ClassicGroup {
    /// A LeaveGroup. All who leave together cost one rebalance.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, ticket: Ticket, leaving: &[MemberIdentity]) {
        let mut first = None;
        let mut members = Vec::with_capacity(leaving.len());
        for member in leaving {
            let code = match self.leave_one(member, turn) {
                Ok(cause) => {
                    first.get_or_insert(cause);
                    ErrorCode::None
                }
                Err(code) => code,
            };
            members.push(MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: code.code(),
            });
        }
        turn.fx.reply(ticket, LeaveGroupResponse { members, ..LeaveGroupResponse::default() });
        if let Some(cause) = first
            && !self.is_empty()
        {
            self.rebalance_or_complete(cause, turn);
        }
    }

    fn leave_one(&mut self, leaving: &MemberIdentity, turn: &mut Turn<'_>) -> Result<Cause, ErrorCode> {
        let instance = leaving.group_instance_id.as_deref();
        let id = match leaving.member_id.is_empty() {
            // An admin knows the name of a static member, not its id.
            true => instance.and_then(|instance| self.members.holder(instance)).cloned(),
            false => Some(leaving.member_id.detach()),
        };
        let id = id.ok_or(ErrorCode::UnknownMemberId)?;
        if !self.pending.contains_key(&id) && !leaving.member_id.is_empty() {
            self.know(&id, instance, turn)?;
        }
        let said = leaving.reason.as_ref().filter(|reason| !reason.is_empty()).map(KStr::detach);
        let cause = Cause { said, ..self.cause_of(Why::MemberLeft, &id) };
        self.take_out(&id, turn);
        Ok(cause)
    }
}
