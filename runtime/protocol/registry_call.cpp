#include "runtime/protocol/registry_call.hpp"

namespace regroup {

std::string_view describe(RegistryStatus status) {
  switch (status) {
    case RegistryStatus::kDone:
      return "done";
    case RegistryStatus::kConflict:
      return "the key has another version";
    case RegistryStatus::kTooManyKeys:
      return "the registry holds 65536 keys and takes no more";
    case RegistryStatus::kTooManyBytes:
      return "the registry holds 16 MiB and takes no more";
    case RegistryStatus::kTooManyWatches:
      return "4096 watches wait already";
    case RegistryStatus::kTooManyCalls:
      return "64 calls of this rank wait already";
    case RegistryStatus::kEnding:
      return "the run is at its end";
    case RegistryStatus::kKeyTooLong:
      return "a key has 256 bytes at most";
    case RegistryStatus::kValueTooLong:
      return "a value has 65536 bytes at most";
    case RegistryStatus::kTimedOut:
      return "no answer in time";
  }
  return "unknown";
}

void put_registry_request(Writer& writer, const RegistryRequest& request) {
  writer.put(request.number);
  writer.put(request.operation);
  writer.put_string(request.key);
  switch (request.operation) {
    case RegistryOperation::kGet:
      return;
    case RegistryOperation::kPut:
      writer.put(request.write);
      writer.put(request.answered);
      writer.put(request.version);
      writer.put_string(request.value);
      return;
    case RegistryOperation::kWatch:
      writer.put(request.version);
      writer.put(request.left);
      return;
  }
}

std::optional<RegistryRequest> get_registry_request(Reader& reader) {
  RegistryRequest request;
  request.number = reader.get<std::uint64_t>();
  request.operation = reader.get<RegistryOperation>();
  request.key = reader.get_string();
  bool sensible = request.number != 0 && request.key.size() <= kRegistryKeyBytesMax;
  switch (request.operation) {
    case RegistryOperation::kGet:
      break;
    case RegistryOperation::kPut:
      request.write = reader.get<std::uint64_t>();
      request.answered = reader.get<std::uint64_t>();
      request.version = reader.get<std::uint64_t>();
      request.value = reader.get_string();
      sensible &= request.value.size() <= kRegistryValueBytesMax &&
                  request.write > request.answered &&
                  request.write - request.answered <= kRegistryCallsMax;
      break;
    case RegistryOperation::kWatch:
      request.version = reader.get<std::uint64_t>();
      request.left = reader.get<Nanoseconds>();
      sensible &= request.left >= 0 && request.left <= kRegistryTimeoutMax;
      break;
    default:
      return {};
  }
  if (!sensible || !reader.complete()) return {};
  return request;
}

void put_registry_answer(Writer& writer, const RegistryAnswer& answer) {
  writer.put(answer.number);
  writer.put(answer.status);
  writer.put(answer.version);
  writer.put_string(answer.value);
}

std::optional<RegistryAnswer> get_registry_answer(Reader& reader) {
  RegistryAnswer answer;
  answer.number = reader.get<std::uint64_t>();
  answer.status = reader.get<RegistryStatus>();
  answer.version = reader.get<std::uint64_t>();
  answer.value = reader.get_string();
  const bool sensible = answer.status <= RegistryStatus::kEnding &&
                        answer.value.size() <= kRegistryValueBytesMax && reader.complete();
  if (!sensible) return {};
  return answer;
}

}  // namespace regroup
