#include "scheduler/registry_client.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace regroup {
namespace {

// Why the call is not to be sent at all.
std::optional<RegistryStatus> problem_with(const RegistryCall& call) {
  if (call.key.size() > kRegistryKeyBytesMax) return RegistryStatus::kKeyTooLong;
  if (call.value.size() > kRegistryValueBytesMax) return RegistryStatus::kValueTooLong;
  return {};
}

}  // namespace

void RegistryClient::ask(Context& context, RegistryCall& call, Line line) {
  const auto refuse = [&](RegistryStatus status) {
    context.reply({.id = call.id, .status = status, .version = 0, .value = {}});
  };
  if (ended_) return refuse(RegistryStatus::kEnding);
  if (const auto problem = problem_with(call)) return refuse(*problem);
  const bool puts = call.operation == RegistryOperation::kPut;
  // What the coordinator must remember of this rank's puts is bounded as well.
  const bool too_far = puts && writes_ - answered_writes() >= kRegistryCallsMax;
  if (asked_.size() >= kRegistryCallsMax || too_far) return refuse(RegistryStatus::kTooManyCalls);
  const Nanoseconds timeout = std::clamp<Nanoseconds>(call.timeout, 0, kRegistryTimeoutMax);
  Asked& asked = asked_.emplace_back();
  asked.number = ++numbers_;
  if (puts) asked.write = ++writes_;
  asked.deadline = context.now() + timeout;
  asked.call = std::move(call);
  if (line == Line::kOpen) send(context, asked);
}

// Puts up to this one have had their reply.
std::uint64_t RegistryClient::answered_writes() const {
  for (const Asked& asked : asked_) {
    if (asked.write != 0) return asked.write - 1;
  }
  return writes_;
}

void RegistryClient::send(Context& context, const Asked& asked) const {
  const Nanoseconds left = std::max<Nanoseconds>(asked.deadline - context.now(), 0);
  Writer writer = context.begin(context.view().coordinator, MessageKind::kRegistryRequest);
  put_registry_request(writer, {.number = asked.number,
                                .operation = asked.call.operation,
                                .key = asked.call.key,
                                .value = asked.call.value,
                                .version = asked.call.version,
                                .write = asked.write,
                                .answered = answered_writes(),
                                .left = left});
  context.send();
}

void RegistryClient::send_all(Context& context) {
  for (const Asked& asked : asked_) send(context, asked);
}

// An answer to a call that has had its reply came too late, and is no nonsense.
bool RegistryClient::on_answer(Context& context, Reader& reader) {
  const auto answer = get_registry_answer(reader);
  if (!answer || answer->number == 0 || answer->number > numbers_) return false;
  const auto asked = std::ranges::find(asked_, answer->number, &Asked::number);
  if (asked == asked_.end()) return true;
  RegistryReply reply{asked->call.id, answer->status, answer->version, std::string(answer->value)};
  asked_.erase(asked);
  context.reply(std::move(reply));
  return true;
}

void RegistryClient::end_late_calls(Context& context) {
  std::erase_if(asked_, [&](const Asked& asked) {
    if (asked.deadline > context.now()) return false;
    context.reply({asked.call.id, RegistryStatus::kTimedOut, 0, {}});
    return true;
  });
}

void RegistryClient::end(Context& context) {
  ended_ = true;
  for (const Asked& asked : asked_) {
    context.reply({asked.call.id, RegistryStatus::kEnding, 0, {}});
  }
  asked_.clear();
}

}  // namespace regroup
