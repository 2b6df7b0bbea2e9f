#include "runtime/host/registry.hpp"

#include <utility>

namespace regroup {

std::expected<RegistryEntry, RegistryError> Registry::get(std::string_view key,
                                                          Nanoseconds timeout) {
  return ask({.operation = RegistryOperation::kGet,
              .key = std::string(key),
              .value = {},
              .timeout = timeout});
}

std::expected<std::uint64_t, RegistryError> Registry::put(std::string_view key,
                                                          std::string_view value,
                                                          std::uint64_t expected_version,
                                                          Nanoseconds timeout) {
  auto entry = ask({.operation = RegistryOperation::kPut,
                    .key = std::string(key),
                    .value = std::string(value),
                    .version = expected_version,
                    .timeout = timeout});
  if (!entry) return std::unexpected(entry.error());
  return entry->version;
}

std::expected<RegistryEntry, RegistryError> Registry::watch(std::string_view key,
                                                            std::uint64_t version,
                                                            Nanoseconds timeout) {
  return ask({.operation = RegistryOperation::kWatch,
              .key = std::string(key),
              .value = {},
              .version = version,
              .timeout = timeout});
}

std::expected<RegistryEntry, RegistryError> Registry::ask(RegistryCall call) {
  if (!ask_) return std::unexpected(RegistryError{RegistryStatus::kEnding});
  RegistryReply reply = ask_(std::move(call));
  if (reply.status != RegistryStatus::kDone) {
    return std::unexpected(RegistryError{reply.status, reply.version});
  }
  return RegistryEntry{reply.version, std::move(reply.value)};
}

}  // namespace regroup
