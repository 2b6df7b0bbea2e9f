#include "runtime/host/mpi_bulk.hpp"

#include <algorithm>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "runtime/host/process_memory.hpp"

namespace regroup {
namespace {

// Memory that MPI may touch to the end of the process.
struct Kept {
  std::vector<Buffer> received;
  std::vector<std::shared_ptr<const Buffer>> sent;
  std::vector<std::shared_ptr<void>> letters;
};
Kept& kept() {
  static auto& memory = *new Kept;
  return memory;
}

// Gives whole pages back to the system. The range stays mapped: what is written there late lands on
// new pages, and what is read is zero.
void release_pages(std::span<const std::byte> bytes) {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto last = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

// Those that others have let go of by now.
void release_sent_pages() {
  for (auto& bytes : kept().sent) {
    if (bytes.use_count() == 1) release_pages(bytes->view());
  }
}

}  // namespace

MpiBulk::MpiBulk(MPI_Comm communicator, Deaths deaths, BulkReading reading, BufferPool& pool)
    : communicator_(communicator),
      deaths_(deaths),
      reading_(reading),
      pool_(&pool),
      domain_(own_memory_domain()) {
  int* highest = nullptr;
  int found = 0;
  mpi::check(MPI_Comm_get_attr(communicator, MPI_TAG_UB, &highest, &found), "MPI_Comm_get_attr");
  if (found != 0) tags_ = static_cast<std::uint64_t>(*highest) / kKinds;
}

MpiBulk::~MpiBulk() {
  for (Transfer& transfer : transfers_) leave_to_mpi(transfer);
}

void MpiBulk::note(Transfer& transfer, int code, const char* call) {
  const mpi::Trouble trouble = mpi::trouble(code, call);
  if (trouble == mpi::Trouble::kNone) return;
  if (trouble == mpi::Trouble::kPeerFailed) unreachable_.insert(transfer.peer);
  transfer.failed = failure_ = true;
}

void MpiBulk::send(BulkSend send) {
  Transfer transfer;
  transfer.way = Way::kOut;
  transfer.peer = send.to;
  transfer.tag = send.tag;
  transfer.size = send.bytes->size();
  transfer.out = std::move(send.bytes);
  transfer.letters = std::make_unique<Letters>();
  open(transfer);
  transfers_.push_back(std::move(transfer));
}

void MpiBulk::receive(const BulkReceive& receive) {
  Transfer transfer;
  transfer.way = Way::kIn;
  transfer.peer = receive.from;
  transfer.tag = receive.tag;
  transfer.size = receive.size;
  transfer.in = pool_->take_large(receive.size);
  transfer.letters = std::make_unique<Letters>();
  await_opening(transfer);
  transfers_.push_back(std::move(transfer));
}

int MpiBulk::mpi_tag(const Transfer& transfer, Kind kind) const {
  return static_cast<int>(transfer.tag.value % tags_ * kKinds + static_cast<std::uint64_t>(kind));
}

// ---- letters ----

void MpiBulk::open(Transfer& transfer) {
  Letters& letters = *transfer.letters;
  const bool reads = reading_ == BulkReading::kWherePossible && transfer.size != 0 &&
                     !refusing_.contains(transfer.peer);
  letters.opening.domain = domain_;
  if (reads) {
    letters.opening.address = reinterpret_cast<std::uintptr_t>(transfer.out->data());
    letters.opening.pid = getpid();
  }
  const int code = MPI_Isend(
      &letters.opening, sizeof letters.opening, MPI_BYTE, static_cast<int>(transfer.peer.value),
      mpi_tag(transfer, Kind::kOpening), communicator_, &letters.opening_request);
  note(transfer, code, "an opening's MPI_Isend");
  if (!reads) return go_by_chunks(transfer);
  transfer.how = How::kRead;
  await_answer(transfer);
}

void MpiBulk::await_opening(Transfer& transfer) {
  Letters& letters = *transfer.letters;
  const int code = MPI_Irecv(
      &letters.opening, sizeof letters.opening, MPI_BYTE, static_cast<int>(transfer.peer.value),
      mpi_tag(transfer, Kind::kOpening), communicator_, &letters.opening_request);
  note(transfer, code, "an opening's MPI_Irecv");
}

void MpiBulk::await_answer(Transfer& transfer) {
  Letters& letters = *transfer.letters;
  const int code = MPI_Irecv(
      &letters.answer, sizeof letters.answer, MPI_BYTE, static_cast<int>(transfer.peer.value),
      mpi_tag(transfer, Kind::kAnswer), communicator_, &letters.answer_request);
  note(transfer, code, "an answer's MPI_Irecv");
}

// The one before has left.
void MpiBulk::answer(Transfer& transfer, std::uint64_t chunks) {
  Letters& letters = *transfer.letters;
  letters.answer = chunks;
  const int code = MPI_Isend(
      &letters.answer, sizeof letters.answer, MPI_BYTE, static_cast<int>(transfer.peer.value),
      mpi_tag(transfer, Kind::kAnswer), communicator_, &letters.answer_request);
  note(transfer, code, "an answer's MPI_Isend");
}

// Whether it has just completed.
bool MpiBulk::arrived(Transfer& transfer, MPI_Request& request) {
  if (request == MPI_REQUEST_NULL || transfer.failed) return false;
  int completed = 0;
  const int code = MPI_Test(&request, &completed, MPI_STATUS_IGNORE);
  note(transfer, code, "a letter's MPI_Test");
  return completed != 0 && !transfer.failed;
}

// Whether one has come that says something new.
bool MpiBulk::exchange_letters(Transfer& transfer, const Transport::BulkHandler& handler) {
  Letters& letters = *transfer.letters;
  const bool opened = arrived(transfer, letters.opening_request);
  const bool answered = arrived(transfer, letters.answer_request);
  if (transfer.way == Way::kIn) {
    if (opened) take_opening(transfer);
    return opened;
  }
  if (answered) take_answer(transfer, handler);
  return answered;
}

void MpiBulk::take_opening(Transfer& transfer) {
  const Opening& opening = transfer.letters->opening;
  if (opening.pid == 0) return go_by_chunks(transfer);
  transfer.how = How::kRead;
  if (transfer.stale) return answer(transfer, transfer.answered = transfer.chunks());
  if (opening.domain != domain_ || reading_ == BulkReading::kNever) {
    answer(transfer, kRefused);
    go_by_chunks(transfer);
  }
}

void MpiBulk::take_answer(Transfer& transfer, const Transport::BulkHandler& handler) {
  transfer.moved_at = {};
  const std::uint64_t chunks = transfer.letters->answer;
  if (chunks == kRefused) {
    refusing_.insert(transfer.peer);
    return go_by_chunks(transfer);
  }
  transfer.answered = static_cast<std::size_t>(chunks);
  if (!transfer.stale) handler(BulkMoved{transfer.way, transfer.peer, transfer.tag});
  if (transfer.answered < transfer.chunks()) await_answer(transfer);
}

void MpiBulk::go_by_chunks(Transfer& transfer) {
  transfer.how = How::kChunks;
  transfer.done = 0;
  transfer.hasher = {};
  transfer.requests.assign(transfer.way == Way::kOut ? kSendWindow : kReceiveWindow,
                           MPI_REQUEST_NULL);
  begin_chunks(transfer);
}

// The next one of a reading: the receiver reads it, and both hash it. Returns its bytes, or 0 if
// there is nothing to do.
std::size_t MpiBulk::read_chunk(Transfer& transfer, const Transport::BulkHandler& handler) {
  if (transfer.how != How::kRead || transfer.failed || transfer.stale) return 0;
  if (transfer.done == transfer.chunks()) return 0;
  const std::size_t chunk = transfer.done;
  const std::size_t bytes = transfer.chunk_bytes(chunk);
  if (transfer.way == Way::kOut) {
    transfer.hasher.add_chunk(transfer.bytes(chunk));
    ++transfer.done;
    return bytes;
  }
  Letters& letters = *transfer.letters;
  const bool due = (chunk + 1) % kChunksPerAnswer == 0 || chunk + 1 == transfer.chunks();
  if (due && letters.answer_request != MPI_REQUEST_NULL) return 0;
  const std::uint64_t from = letters.opening.address + chunk * kBulkChunkBytes;
  if (!read_process_memory(letters.opening.pid, from, transfer.place(chunk))) {
    if (letters.answer_request != MPI_REQUEST_NULL) return 0;
    answer(transfer, kRefused);
    go_by_chunks(transfer);
    return bytes;
  }
  transfer.hasher.add_chunk(transfer.place(chunk));
  ++transfer.done;
  if (due) answer(transfer, transfer.answered = transfer.done);
  handler(BulkMoved{transfer.way, transfer.peer, transfer.tag});
  return bytes;
}

// ---- chunks ----

void MpiBulk::begin_chunks(Transfer& transfer) {
  if (transfer.how != How::kChunks) return;
  while (!transfer.failed && transfer.begun < transfer.chunks() &&
         transfer.begun - transfer.done < transfer.requests.size()) {
    const int code = begin_chunk(transfer, transfer.begun);
    note(transfer, code, "a chunk's MPI_Isend or MPI_Irecv");
    ++transfer.begun;
  }
}

// Chunks of one transfer share a tag: MPI matches them in the order in which they were begun.
int MpiBulk::begin_chunk(Transfer& transfer, std::size_t chunk) {
  const int peer = static_cast<int>(transfer.peer.value);
  const int tag = mpi_tag(transfer, Kind::kChunk);
  MPI_Request* const request = &transfer.request(chunk);
  if (transfer.way == Way::kIn) {
    const auto place = transfer.place(chunk);
    return MPI_Irecv(place.data(), static_cast<int>(place.size()), MPI_BYTE, peer, tag,
                     communicator_, request);
  }
  const auto bytes = transfer.bytes(chunk);
  if (!transfer.stale) transfer.hasher.add_chunk(bytes);
  return MPI_Isend(bytes.data(), transfer.stale ? 0 : static_cast<int>(bytes.size()), MPI_BYTE,
                   peer, tag, communicator_, request);
}

// Returns how many bytes that was, or 1 where they do not count.
std::size_t MpiBulk::chunk_done(Transfer& transfer, const MPI_Status& status,
                                const Transport::BulkHandler& handler) {
  const std::size_t chunk = transfer.done++;
  const std::size_t bytes = transfer.chunk_bytes(chunk);
  transfer.request(chunk) = MPI_REQUEST_NULL;
  transfer.moved_at = {};
  if (transfer.way == Way::kIn) {
    int count = 0;
    mpi::check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    transfer.cut_short |= static_cast<std::size_t>(count) != bytes;
    const bool matters = !transfer.cut_short && !transfer.stale;
    if (matters) transfer.hasher.add_chunk(transfer.place(chunk));
  }
  if (!transfer.stale) handler(BulkMoved{transfer.way, transfer.peer, transfer.tag});
  return transfer.stale ? 1 : bytes;
}

// ---- progress ----

bool MpiBulk::poll(const Transport::BulkHandler& handler) {
  if (transfers_.empty()) return false;
  bool moved = false;
  for (Transfer& transfer : transfers_) {
    moved |= exchange_letters(transfer, handler);
    stop_reading(transfer);
    begin_chunks(transfer);
  }
  for (std::size_t bytes = 0; bytes < kBytesAtOnce;) {
    std::size_t more = look(handler);
    for (Transfer& transfer : transfers_) more += read_chunk(transfer, handler);
    if (more == 0) break;
    moved = true;
    bytes += more;
  }
  const auto now = Clock::now();
  std::erase_if(transfers_, [&](Transfer& transfer) { return settle(transfer, now, handler); });
  return moved;
}

// One look for all, since each look in vain makes MPI progress. Returns how many bytes have moved.
std::size_t MpiBulk::look(const Transport::BulkHandler& handler) {
  heads_.clear();
  owners_.clear();
  for (std::size_t i = 0; i < transfers_.size(); ++i) {
    Transfer& transfer = transfers_[i];
    if (transfer.how != How::kChunks || transfer.failed || transfer.done == transfer.begun)
      continue;
    heads_.push_back(transfer.request(transfer.done));
    owners_.push_back(i);
  }
  if (heads_.empty()) return 0;
  completed_.resize(heads_.size());
  statuses_.resize(heads_.size());
  int count = 0;
  const int code = MPI_Testsome(static_cast<int>(heads_.size()), heads_.data(), &count,
                                completed_.data(), statuses_.data());
  const bool in_status = code == MPI_ERR_IN_STATUS;
  if (!in_status && mpi::trouble(code, "MPI_Testsome") != mpi::Trouble::kNone) failure_ = true;
  if (count == MPI_UNDEFINED) return 0;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    Transfer& transfer = transfers_[owners_[static_cast<std::size_t>(completed_[i])]];
    const int error = in_status ? statuses_[i].MPI_ERROR : MPI_SUCCESS;
    if (error != MPI_SUCCESS) {
      if (error != MPI_ERR_PENDING) note(transfer, error, "MPI_Testsome");
      continue;
    }
    bytes += chunk_done(transfer, statuses_[i], handler);
    begin_chunks(transfer);
  }
  return bytes;
}

// At this end, or as far as it matters.
bool MpiBulk::is_complete(const Transfer& transfer) {
  if (transfer.how == How::kNotSaid) return false;
  const Letters& letters = *transfer.letters;
  if (letters.opening_request != MPI_REQUEST_NULL) return false;
  if (letters.answer_request != MPI_REQUEST_NULL) return false;
  const bool read = transfer.how == How::kRead && transfer.answered == transfer.chunks();
  return read ? transfer.stale || transfer.done == transfer.chunks()
              : transfer.how == How::kChunks && transfer.done == transfer.chunks();
}

// Whether nothing is left to do for it.
bool MpiBulk::settle(Transfer& transfer, Clock::time_point now,
                     const Transport::BulkHandler& handler) {
  if (transfer.failed) {
    leave_to_mpi(transfer);
    return true;
  }
  if (is_complete(transfer)) {
    report(transfer, handler);
    return true;
  }
  if (!transfer.stale) return false;
  if (transfer.moved_at == Clock::time_point{}) transfer.moved_at = now;
  if (now - transfer.moved_at < kDrainTimeout) return false;
  leave_to_mpi(transfer);
  return true;
}

void MpiBulk::report(Transfer& transfer, const Transport::BulkHandler& handler) {
  const bool whole = !transfer.stale && !transfer.cut_short;
  const BulkHash hash = transfer.hasher.hash();
  if (transfer.way == Way::kOut) {
    transfer.out.reset();
    if (whole) handler(BulkSent{transfer.peer, transfer.tag, hash});
  } else {
    if (whole) handler(BulkArrived{transfer.peer, transfer.tag, hash, &transfer.in});
    pool_->give_large(std::move(transfer.in));
  }
}

RankSet MpiBulk::peers() const {
  RankSet peers;
  for (const Transfer& transfer : transfers_) peers.insert(transfer.peer);
  return peers;
}

// ---- what is not to be ----

void MpiBulk::end_view() {
  for (Transfer& transfer : transfers_) transfer.stale = true;
  release_sent_pages();
}

// One that reads says that it is done, as soon as it can.
void MpiBulk::stop_reading(Transfer& transfer) {
  const bool reads = transfer.way == Way::kIn && transfer.how == How::kRead;
  if (!transfer.stale || !reads || transfer.answered == transfer.chunks()) return;
  if (transfer.letters->answer_request != MPI_REQUEST_NULL) return;
  answer(transfer, transfer.answered = transfer.chunks());
}

void MpiBulk::abandon(RankId rank) {
  std::erase_if(transfers_, [&](Transfer& transfer) {
    if (transfer.peer != rank) return false;
    leave_to_mpi(transfer);
    return true;
  });
}

void MpiBulk::leave_to_mpi(Transfer& transfer) {
  Letters& letters = *transfer.letters;
  const bool opening_is_free = cancel(letters.opening_request);
  if (!cancel(letters.answer_request) || !opening_is_free) {
    kept().letters.emplace_back(std::move(transfer.letters));
  }
  const bool chunks_are_free = transfer.how != How::kChunks || cancel(transfer);
  if (transfer.way == Way::kOut) {
    if (chunks_are_free) return;
    kept().sent.push_back(std::move(transfer.out));
    release_sent_pages();
  } else if (chunks_are_free) {
    pool_->give_large(std::move(transfer.in));
  } else {
    release_pages(transfer.in.view());
    kept().received.push_back(std::move(transfer.in));
  }
}

// Whether MPI touches the memory of its chunks no more.
bool MpiBulk::cancel(Transfer& transfer) {
  bool all = true;
  for (std::size_t chunk = transfer.done; chunk < transfer.begun; ++chunk) {
    all &= cancel(transfer.request(chunk));
  }
  return all;
}

// Whether MPI touches its memory no more. A receive that its sender has begun to fill cannot be
// called back, nor can a send; with ULFM nothing is (5.0.7 crashes where a rank has failed).
bool MpiBulk::cancel(MPI_Request& request) {
  if (request == MPI_REQUEST_NULL) return true;
  if (deaths_ == Deaths::kReported) return false;
  int completed = 0;
  mpi::check(MPI_Cancel(&request), "MPI_Cancel");
  const int code = MPI_Test(&request, &completed, MPI_STATUS_IGNORE);
  return mpi::trouble(code, "MPI_Test") == mpi::Trouble::kNone && completed != 0;
}

}  // namespace regroup
