// HTTP/1.1 to a server of this kind only: Triton's inference endpoint, over a connection that stays open. Nothing here waits.
#pragma once

#include <netinet/in.h>
#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <vector>

namespace recsplit {

// Bytes that stay where they are until they are sent.
struct Piece {
  const void* data;
  size_t size;
};

// One connection, and the request that is under way on it.
class HttpConnection {
 public:
  // Begins to connect. Throws Error where that fails at once.
  explicit HttpConnection(const sockaddr_in& address);
  ~HttpConnection();
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // Begins a request: `head` is its head, with the empty line that ends it, and the pieces its body.
  void begin(std::string head, const std::vector<Piece>& body);

  // Sends and receives what it can. True: the answer is there. Throws Error where the connection is lost, or what comes is no answer.
  bool proceed();

  int descriptor() const { return socket_; }
  // What poll is to wait for.
  short events() const;
  // Whether it served before, and nothing of the new answer came: whoever closed it had not seen the request.
  bool stale() const { return served_ && count_ == 0; }
  // Whether nothing came that nobody asked for, its end included. Such bytes would pass for the next answer.
  bool is_silent() const;
  // Whether it can serve again, once an answer is there.
  bool reusable() const { return keeps_; }

  // Of the answer.
  int status() const { return status_; }
  const char* body() const { return received_.data() + head_size_; }
  size_t body_size() const { return body_size_; }
  // Of the body, JSON; 0: all of it.
  size_t json_size() const { return json_size_; }

 private:
  void send_some();
  bool receive_some();
  void read_head(size_t size);

  int socket_ = -1;
  bool connecting_ = true, sending_ = false, served_ = false, keeps_ = true;
  std::string head_;
  std::vector<iovec> left_;
  size_t first_left_ = 0;
  std::string received_;  // `count_` bytes, and room for more: what is cleared once serves for every answer
  size_t count_ = 0;
  size_t head_size_ = 0, body_size_ = 0, json_size_ = 0;
  int status_ = 0;
};

}  // namespace recsplit
