import './style/base.css';
import './style/room.css';
import { startRoomPage } from './ui/room_page';

void startRoomPage('student');
