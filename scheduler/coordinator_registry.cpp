// The coordinator's part in the registry: what is asked of it goes to the desk, what was written
// into the ledger, and the answers out when they are safe. See registry.hpp.
#include <string>

#include "runtime/protocol/planted.hpp"
#include "scheduler/coordinator.hpp"

namespace regroup {

bool Coordinator::on_registry_request(Context& context, RankId from, Reader& reader) {
  const auto request = get_registry_request(reader);
  if (!request) return false;
  serve(context, from, *request);
  send_answers(context);
  return true;
}

// The next entry of the ledger is to tell of what was written, and to show that this rank leads.
void Coordinator::serve(Context& context, RankId from, const RegistryRequest& request) {
  using enum RegistryDesk::Open;
  const auto open = state_ == RunPhase::kOpening   ? kNotYet
                    : state_ == RunPhase::kRunning ? kYes
                                                   : kNoMore;
  const bool puts = request.operation == RegistryOperation::kPut;
  const bool early = planted(puts ? PlantedBug::kAnswerEarly : PlantedBug::kReadAlone);
  const LedgerPosition entry = early ? ledger_.committed() : ledger_.position() + 1;
  const bool changed = registry_.take(from, request, open, entry, context.now());
  if (changed) record_put(from, request);
  if (registry_.waits()) ledger_.touch();
}

// Whoever asked while this rank was still opening the job, or taking over.
void Coordinator::serve_held(Context& context) {
  for (const auto& [from, bytes] : registry_.release()) {
    Reader reader(bytes.view());
    serve(context, from, *get_registry_request(reader));
  }
  send_answers(context);
}

// Without standbys nothing is safer than what the coordinator has.
void Coordinator::send_answers(Context& context) {
  const bool nowhere_safer = !ledger_.has_standbys();
  for (const auto& answer :
       registry_.answers(nowhere_safer ? ~LedgerPosition{0} : ledger_.committed())) {
    Writer writer = context.begin(answer.to, MessageKind::kRegistryAnswer);
    put_registry_answer(
        writer, {.number = answer.number,
                 .status = answer.status,
                 .version = answer.version,
                 .value = answer.value ? std::string_view(*answer.value) : std::string_view()});
    context.send();
  }
}

// Those who ask wait for the next entry, which need not wait for company unless one is under way.
bool Coordinator::registry_waits() const {
  return registry_.waits() && ledger_.committed() == ledger_.position();
}

void Coordinator::record_put(RankId from, const RegistryRequest& request) {
  Buffer* records = ledger_.records();
  if (records == nullptr) return;
  Writer writer(*records);
  writer.put(Record::kPut);
  writer.put(stage_);
  writer.put(from);
  writer.put(request.write);
  writer.put(request.answered);
  writer.put(request.version);
  writer.put_string(request.key);
  writer.put_string(request.value);
  ledger_.recorded(state_bytes());
}

bool Coordinator::replay_put(Reader& reader) {
  RegistryStore::Write write;
  write.rank = reader.get<RankId>();
  write.number = reader.get<std::uint64_t>();
  write.answered = reader.get<std::uint64_t>();
  write.expected = reader.get<std::uint64_t>();
  write.key = reader.get_string();
  write.value = reader.get_string();
  const bool sensible =
      !reader.failed() && write.rank.value < peers_.size() && write.number > write.answered &&
      write.number - write.answered <= kRegistryCallsMax &&
      write.key.size() <= kRegistryKeyBytesMax && write.value.size() <= kRegistryValueBytesMax;
  return sensible && registry_.store().put(write).changed;
}

}  // namespace regroup
